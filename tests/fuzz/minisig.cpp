// A signature, a public key or a secret key in one input, with zeros between.
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
  const std::string file = scratch.write("file", "what is signed");
  const std::string signature = scratch.write("file.minisig", part()), open = scratch.write("key.pub", part());
  const std::string secret = scratch.write("key", part());
  NoProgress progress;
  const auto verified = seal::verify_file(file, open, signature, progress);
  if (const Status signed_here = seal::sign_file(file, secret, "", progress); !signed_here && verified)
    return message_of(signed_here);
  return message_of(verified);
}

}  // namespace shoehorn::fuzz
