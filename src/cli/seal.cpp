#include "cli/command.h"
#include "seal/sealed_file.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string from, to, key;
  bool new_key = false;
};

Status seal_model(const Options& o) {
  SHOEHORN_RETURN_IF_ERROR(refuse_same_file(o.from, o.to));
  if (o.new_key) SHOEHORN_RETURN_IF_ERROR(seal::make_key(o.key));
  SHOEHORN_TRY(const seal::Key key, seal::read_key(o.key, true));
  SHOEHORN_RETURN_IF_ERROR(seal::seal_file(o.from, o.to, key, *make_progress()));
  remark(fmt::format("{} is sealed; {} is as it was", o.to, o.from));
  return {};
}

}  // namespace

std::function<Status()> define_seal(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("FILE", o->from, "What is sealed")->required();
  app.add_option("OUT", o->to, "The sealed file")->required();
  app.add_option("--key", o->key,
                 "A key file (32 bytes, or 64 hexadecimal digits), keyring:NAME (a key of the kernel's), or prompt (a "
                 "passphrase)")
      ->required();
  app.add_flag("--new-key", o->new_key, "Make the key file first; it must not be there yet");
  app.footer(
      "Encrypts and authenticates a file (XChaCha20-Poly1305 in chunks). All commands that read a GGUF read a sealed "
      "one with --seal-key, or\n"
      "SHOEHORN_SEAL_KEY in the environment: it is decrypted into memory, nothing is written. Without the key nothing "
      "brings it back.\n"
      "Examples:\n"
      "  shoehorn seal model.gguf model.sealed --key model.key --new-key\n"
      "  shoehorn run -m model.sealed --seal-key model.key\n"
      "  shoehorn seal model.gguf model.sealed --key prompt");
  return [o] { return seal_model(*o); };
}

}  // namespace shoehorn::cli
