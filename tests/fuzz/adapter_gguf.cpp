// An adapter beside a small model.
#include "engine/adapter.h"
#include "fuzz/seeds.h"
#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_adapter_gguf(std::string_view input) {
  static const Scratch scratch;
  return message_of(engine::Adapter::open(scratch.write("adapter.gguf", input), small_model()));
}

}  // namespace shoehorn::fuzz
