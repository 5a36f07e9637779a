// A model's last activations over a text, kept in a file: what every comparison with that model would compute again.
#pragma once

#include <optional>
#include <string>

#include "engine/session.h"
#include "io/safetensors.h"

namespace shoehorn::eval {

/// What the activations are of; a file of anything else is not used.
struct StatesOf {
  const engine::Session* session = nullptr;
  std::span<const tokenizer::Token> tokens;  ///< of all chunks
  size_t n_chunks = 0;
  size_t first = 0, n_per_chunk = 0;  ///< positions of each chunk

  std::string name() const;             ///< of the tensor
  std::vector<uint64_t> shape() const;  ///< [n_chunks, n_per_chunk, n_embd]
};

/// Activations [n_chunks, n_per_chunk, n_embd] behind the last layer, F32, in one safetensors file.
class KeptStates {
 public:
  /// Nothing when the file is not there, cannot be read or is of something else.
  static std::optional<KeptStates> open(const std::string& path, const StatesOf& of);

  /// [n_per_chunk, n_embd]
  const float* chunk(size_t i) const { return data_ + i * chunk_floats_; }

 private:
  MappedFile file_;
  const float* data_ = nullptr;
  size_t chunk_floats_ = 0;
};

/// Writes them, a chunk at a time; nothing is there before commit().
class StatesWriter {
 public:
  Status begin(const std::string& path, const StatesOf& of);
  /// [n_per_chunk, n_embd]
  Status append(const float* chunk);
  Status commit() { return writer_.commit(); }

 private:
  io::SafetensorsWriter writer_;
  size_t chunk_floats_ = 0;
};

}  // namespace shoehorn::eval
