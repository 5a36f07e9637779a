// The index of a sharded checkpoint, with two shards beside it.
#include "fuzz/target.h"
#include "io/checkpoint.h"

namespace shoehorn::fuzz {
namespace {

std::string shard(std::string_view tensor) {
  const std::string header = fmt::format(R"({{"{}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}})", tensor);
  std::string out(8, '\0');
  out[0] = static_cast<char>(header.size());
  return out + header + "\1\2\3\4";
}

}  // namespace

std::string run_safetensors_index(std::string_view input) {
  static const Scratch scratch;
  static const bool written = [] {
    scratch.write("model-00001-of-00002.safetensors", shard("a"));
    scratch.write("model-00002-of-00002.safetensors", shard("b"));
    return true;
  }();
  if (written) scratch.write("model.safetensors.index.json", input);
  return message_of(io::Checkpoint::open(scratch.path()));
}

}  // namespace shoehorn::fuzz
