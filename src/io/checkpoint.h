// A Hugging Face checkpoint's weights: model.safetensors, a sharded safetensors index, or pytorch_model.bin (single or
// sharded).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"
#include "io/checkpoint_tensor.h"
#include "io/packed.h"
#include "io/pytorch_bin.h"

namespace shoehorn::io {

/// All weights of a checkpoint directory, mapped. Every range is checked on open; names are unique.
class Checkpoint {
 public:
  /// DIR, or one weights file. Looks for model.safetensors(.index.json), then pytorch_model.bin(.index.json).
  /// Formats are told apart by content. What is renamed, dropped and copied: io/sanitize.h.
  /// Fails naming the file and the reason: missing shard, truncated header, overlapping or short ranges, unknown dtype
  /// ...
  /// `packing`: how the configuration says that matrices are packed; without it packed ones are refused.
  static Expected<Checkpoint> open(const std::string& path, const PackedConfig& packing = {});

  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  const CheckpointTensor* find(std::string_view name) const;
  /// Entries that are not weights of the model and were left out (masks, pruner buffers, optimizer state, rotary
  /// tables), each as "name (reason)".
  const std::vector<std::string>& dropped() const { return dropped_; }
  /// What the weights say about their model when they are a pickled object of it.
  const std::optional<PickledModel>& model() const { return model_; }
  const std::string& path() const { return path_; }
  /// Sum of the sizes of the weight files.
  uint64_t file_bytes() const;

 private:
  std::string path_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<std::unique_ptr<std::byte[]>> owned_;
  std::vector<CheckpointTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<std::string> dropped_;
  std::optional<PickledModel> model_;
};

}  // namespace shoehorn::io
