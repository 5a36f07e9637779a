// A signature, a public key, a secret key and the file that was signed in one input, with zeros between. Where there is
// no secret key, one is made, and what it signs is verified.
#include <algorithm>

#include "fuzz/target.h"
#include "seal/minisign.h"

namespace shoehorn::fuzz {

std::string run_minisig(std::string_view input) {
  static const Scratch scratch;
  const auto part = [&] {
    const std::string_view taken = input.substr(0, input.find('\0'));
    input.remove_prefix(std::min(input.size(), taken.size() + 1));
    return taken;
  };
  const std::string signature = scratch.write("file.minisig", part()), open = scratch.write("key.pub", part());
  const std::string_view secret_key = part();
  const std::string secret = scratch.write("key", secret_key), signed_text(input.empty() ? "what is signed" : input);
  const std::string file = scratch.write("file", signed_text);
  NoProgress progress;
  if (secret_key.empty()) {
    const std::string made = scratch.path() + "/made";
    for (const char* suffix : {"", ".pub"}) std::remove((made + suffix).c_str());
    const std::string other = scratch.write("other", signed_text);
    if (!seal::make_signing_key(made) || !seal::sign_file(other, made, "", progress) ||
        !seal::verify_file(other, made + ".pub", other + ".minisig", progress))
      std::abort();
  }
  const auto verified = seal::verify_file(file, open, signature, progress);
  if (const Status signed_here = seal::sign_file(file, secret, "", progress); !signed_here && verified)
    return message_of(signed_here);
  return message_of(verified);
}

}  // namespace shoehorn::fuzz
