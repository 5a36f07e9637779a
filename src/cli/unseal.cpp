#include "cli/command.h"
#include "seal/sealed_file.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string from, to, key;
};

Status unseal_model(const Options& o) {
  SHOEHORN_RETURN_IF_ERROR(refuse_same_file(o.from, o.to));
  SHOEHORN_TRY(const seal::Key key, seal::read_key(o.key));
  return seal::unseal_file(o.from, o.to, key, *make_progress());
}

}  // namespace

std::function<Status()> define_unseal(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("FILE", o->from, "The sealed file")->required();
  app.add_option("OUT", o->to, "The plain file, which appears when all of it is known to be what was sealed")
      ->required();
  app.add_option("--key", o->key, "What it was sealed with: a key file, keyring:NAME, or prompt")->required();
  app.footer("Example: shoehorn unseal model.sealed model.gguf --key model.key");
  return [o] { return unseal_model(*o); };
}

}  // namespace shoehorn::cli
