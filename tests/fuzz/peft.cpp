// A PEFT adapter's two files, adapter_config.json and, behind a zero byte, adapter_model.safetensors.
#include "io/peft.h"

#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_peft(std::string_view input) {
  static const Scratch scratch;
  const size_t zero = input.find('\0');
  scratch.write("adapter_config.json", input.substr(0, zero));
  scratch.write("adapter_model.safetensors", zero == std::string_view::npos ? "" : input.substr(zero + 1));
  return message_of(io::read_peft(scratch.path()));
}

}  // namespace shoehorn::fuzz
