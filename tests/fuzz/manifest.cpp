// A manifest of hashes; and the same lines as a GGUF's metadata has them.
#include <algorithm>
#include <cstdlib>

#include "fuzz/target.h"
#include "io/tensor_hashes.h"

namespace shoehorn::fuzz {

std::string run_manifest(std::string_view input) {
  static const Scratch scratch;
  io::GgufMetadata metadata;
  std::vector<std::string> lines;
  for (size_t at = 0; at < input.size();) {
    const size_t end = std::min(input.find('\n', at), input.size());
    lines.emplace_back(input.substr(at, end - at));
    at = end + 1;
  }
  metadata.set(io::kTensorHashes, io::GgufArray(std::move(lines)));
  if (const auto hashes = io::tensor_hashes(metadata); hashes) {
    if (io::to_gguf(*hashes).index() != metadata.find(io::kTensorHashes)->index()) std::abort();
  }
  const auto manifest = io::read_manifest(scratch.write("model.gguf.manifest", input));
  if (!manifest) return message_of(manifest);
  // What is written is read as the same.
  const std::string again = scratch.path() + "/again";
  if (!io::write_manifest(*manifest, "model.gguf", again)) std::abort();
  const auto same = io::read_manifest(again);
  if (!same || same->tensors.size() != manifest->tensors.size() || same->all != manifest->all) std::abort();
  return "";
}

}  // namespace shoehorn::fuzz
