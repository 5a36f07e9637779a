// What a model's tensors were when it was made, so that it can be told whether they still are: in our files' metadata,
// and for files that others made in a manifest beside them, of the form that llama.cpp's gguf-hash writes and checks
// (github.com/ggml-org/llama.cpp/tree/master/examples/gguf-hash): "sha256    HEX  FILE:TENSOR", and at the end "sha256
// HEX  FILE" of all tensors' bytes in their order. Neither is a signature: who changes a tensor can change its hash.
#pragma once

#include <string>
#include <vector>

#include "io/gguf.h"

namespace shoehorn::io {

/// The key: a list of "HEX TYPE NAME", a tensor each. The type is there because programs that make another file of ours
/// copy its metadata.
inline constexpr const char* kTensorHashes = "shoehorn.hash.sha256";

GgufValue to_gguf(const std::vector<TensorHash>& hashes);
/// Empty when the metadata has none. kInvalid for other contents.
Expected<std::vector<TensorHash>> tensor_hashes(const GgufMetadata& metadata);

struct Manifest {
  std::vector<TensorHash> tensors;  ///< without types
  std::string all;                  ///< of all tensors' bytes; "" when the manifest does not say
};
/// Where the manifest of a file or a directory is: MODEL.manifest.
std::string manifest_path(const std::string& model);
/// Lines of other digests are passed over. Fails naming file and line, and when there is no SHA-256 in it.
Expected<Manifest> read_manifest(const std::string& path);
/// `file`: what the manifest is of, without folders.
Status write_manifest(const Manifest& manifest, const std::string& file, const std::string& path);

}  // namespace shoehorn::io
