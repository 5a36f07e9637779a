// LoRA adapters beside a model's weights (Hu et al. 2021, arXiv:2106.09685).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "engine/model.h"

namespace shoehorn::engine {

/// A GGUF of llama.cpp's convert_lora_to_gguf, or of `heal`: for a matrix W of the model y = W x + scale B A x, where
/// the weights stay as they are, of whatever type. Immutable: any number of sessions share it.
class Adapter {
 public:
  struct Pair {
    Weight a;     ///< [rank, n_cols], floats; rows of zeros make the rank one that kernels like
    Weight b;     ///< [n_rows, rank]
    float scale;  ///< alpha / rank
  };

  /// Fails with the file, the tensor and the reason: no adapter, of another architecture, a matrix that the model has
  /// not or of another shape, one half without the other, weights that are not finite.
  static Expected<std::shared_ptr<const Adapter>> open(const std::string& path, std::shared_ptr<const Model> model);

  /// What goes with a weight of the model; nullptr: nothing.
  const Pair* find(const Weight& weight) const {
    const auto found = pairs_.find(weight.data);
    return found == pairs_.end() ? nullptr : &found->second;
  }
  const std::string& path() const { return path_; }
  /// Of all its numbers.
  uint64_t hash() const { return hash_; }

 private:
  std::string path_;
  uint64_t hash_ = 0;
  std::shared_ptr<const Model> model_;
  std::map<const std::byte*, Pair> pairs_;  // by where the model's weight lies
  std::vector<AlignedBuffer<float>> memory_;
};

struct ScaledAdapter {
  std::shared_ptr<const Adapter> adapter;
  float scale = 1;
  bool operator==(const ScaledAdapter&) const = default;
};

/// All that are added to a sequence's weights.
using Adapters = std::vector<ScaledAdapter>;

}  // namespace shoehorn::engine
