// The index of a sharded checkpoint, with two shards beside it, and some files that are none.
#include <cstdlib>

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
    scratch.write("again.safetensors", shard("a"));
    scratch.write("pointer.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n");
    scratch.write("gguf.safetensors", "GGUF\3\0\0\0");
    return true;
  }();
  if (written) scratch.write("model.safetensors.index.json", input);
  const auto checkpoint = io::Checkpoint::open(scratch.path());
  if (!checkpoint) return message_of(checkpoint);
  for (const io::CheckpointTensor& tensor : checkpoint->tensors()) {
    if (checkpoint->find(tensor.name) != &tensor || checkpoint->file_bytes() == 0) std::abort();
  }
  return "";
}

}  // namespace shoehorn::fuzz
