// Models of no meaning, in memory, to time the engine with.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "engine/model.h"

namespace shoehorn::fit {

/// Memory whose bytes are weights of any format after fill().
class ProbeWeights {
 public:
  /// Fails with kTooLarge when there is no such room.
  static Expected<ProbeWeights> allocate(size_t bytes);

  /// Blocks of a format, small random weights, over and over.
  void fill(const quant::Format& format);
  std::span<const std::byte> bytes() const { return {memory_.get(), size_}; }

 private:
  struct Unmap {
    size_t size;
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Unmap> memory_;
  size_t size_ = 0;
};

/// The widths of every layer of a probe's model.
struct ProbeShape {
  uint32_t n_embd = 2048, n_ff = 8192, n_head = 32, n_head_kv = 8, head_dim = 64;

  uint64_t layer_weights() const;
};

/// A Llama of `n_layer` layers whose matrices lie one behind the other in `weights`, which has room for them and
/// outlives it; with a vocabulary of the 256 bytes.
Expected<std::shared_ptr<const engine::Model>> probe_model(const ProbeShape& shape, uint32_t n_layer, quant::Type type,
                                                           const ProbeWeights& weights);

}  // namespace shoehorn::fit
