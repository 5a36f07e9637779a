#include "cli/command.h"
#include "seal/minisign.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string file, key, comment;
  bool new_key = false;
};

Status sign(const Options& o) {
  if (o.new_key) {
    SHOEHORN_RETURN_IF_ERROR(seal::make_signing_key(o.key));
    remark(fmt::format("{} is the secret key, {}.pub the public one", o.key, o.key));
  }
  SHOEHORN_RETURN_IF_ERROR(seal::sign_file(o.file, o.key, o.comment, *make_progress()));
  remark(fmt::format("wrote {}.minisig", o.file));
  return {};
}

}  // namespace

std::function<Status()> define_sign(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("FILE", o->file, "What is signed: a GGUF; of a checkpoint its manifest (verify --write-manifest)")
      ->required();
  app.add_option("--key", o->key, "The secret key: ours or minisign's, without a passphrase")->required();
  app.add_flag("--new-key", o->new_key, "Make the pair first, KEY and KEY.pub; neither must be there yet");
  app.add_option("--comment", o->comment, "A line that is signed too (default: the file's name and the time)");
  app.footer(
      "Signs with Ed25519, into FILE.minisig; minisign verifies it as well.\n"
      "Examples:\n"
      "  shoehorn sign model.gguf --key release --new-key\n"
      "  shoehorn verify model.gguf --key release.pub");
  return [o] { return sign(*o); };
}

}  // namespace shoehorn::cli
