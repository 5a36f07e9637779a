// Keys and values of the tokens seen so far, per layer.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "models/model.h"
#include "quant/format.h"

namespace shoehorn::engine {

/// How keys and values are kept.
struct CacheTypes {
  quant::Type keys = quant::Type::F16, values = quant::Type::F16;
  /// A Hadamard transform of each head before it is rounded, so that no element stands out: of keys and of the queries
  /// that meet them, behind rope (R3 of SpinQuant, Liu et al. 2024, arXiv:2405.16406); of values, undone behind attention.
  bool rotate_keys = false, rotate_values = false;
  std::string describe() const;  ///< "F16/F16", "Q8_0 rotated/Q4_0 rotated"
};

/// Per layer and KV head, [n_ctx, head_dim] in the cache type, so that attention streams through one head's positions. Layers
/// without attention take no space.
class KvCache {
 public:
  struct Layer {
    std::byte* keys = nullptr;     // [n_head_kv, n_ctx, head_dim]
    std::byte* values = nullptr;
    size_t key_head_bytes = 0, value_head_bytes = 0;  // from one KV head to the next
  };

  /// Fails with kTooLarge, the numbers and the largest context that fits when memory does not suffice; with kUnsupported when
  /// a head is no multiple of the type's block, or is to be transformed and has an odd number of elements.
  static Expected<KvCache> create(const models::Hparams& hparams, size_t n_ctx, const CacheTypes& types);

  /// Bytes for a context of n_ctx.
  static uint64_t bytes(const models::Hparams& hparams, uint64_t n_ctx, const CacheTypes& types);

  size_t n_ctx() const { return n_ctx_; }
  const Layer& layer(size_t i) const { return layers_[i]; }
  const CacheTypes& types() const { return types_; }
  size_t key_bytes() const { return key_bytes_; }      ///< from one position of a head to the next
  size_t value_bytes() const { return value_bytes_; }
  uint64_t bytes() const { return bytes_; }

 private:
  size_t n_ctx_ = 0;
  uint64_t bytes_ = 0;
  size_t key_bytes_ = 0, value_bytes_ = 0;
  CacheTypes types_;
  std::vector<Layer> layers_;
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace shoehorn::engine
