// What torch.save wrote: a zip with a pickle in it.
#include "io/pytorch_bin.h"

#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_pytorch_bin(std::string_view input) {
  const auto bytes = std::as_bytes(std::span(input));
  if (io::is_legacy_torch(bytes)) return "a file of torch.save from before the zip format";
  return message_of(io::read_pytorch_bin(bytes, "pytorch_model.bin"));
}

}  // namespace shoehorn::fuzz
