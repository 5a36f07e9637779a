// A PEFT adapter's two files, adapter_config.json and, behind a zero byte, adapter_model.safetensors.
#include "compress/heal/adapter_files.h"

#include "fuzz/seeds.h"
#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_peft(std::string_view input) {
  static const Scratch scratch;
  static const compress::Compute compute;
  static const compress::BlockLoader model = [] {
    NoProgress progress;
    return compress::BlockLoader(convert::open_checkpoint(small_checkpoint(), progress).value(), compute, false);
  }();
  const size_t zero = input.find('\0');
  scratch.write("adapter_config.json", input.substr(0, zero));
  scratch.write("adapter_model.safetensors", zero == std::string_view::npos ? "" : input.substr(zero + 1));
  return message_of(compress::read_peft(scratch.path(), model, compute));
}

}  // namespace shoehorn::fuzz
