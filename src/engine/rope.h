// Rotary position embedding of heads; the frequencies are models/rope.h's.
#pragma once

#include <cstddef>

#include "models/rope.h"

namespace shoehorn::engine {

/// The rotation angles of a model: one frequency per pair of elements and a magnitude.
class Rope {
 public:
  /// freq_divisors: the rope_freqs tensor, [n_rot / 2], or nullptr.
  Rope(const models::Hparams& hparams, models::RopeType type, const float* freq_divisors);

  /// cos and sin for positions [first, first + n): out[t * n_rot + 2i], out[t * n_rot + 2i + 1].
  void table(size_t first, size_t n, float* out) const;

  /// Rotates one head [head_dim] in place with a row of table().
  void rotate(float* head, const float* row) const;

  size_t n_rot() const { return n_rot_; }

 private:
  models::RopeType type_;
  size_t n_rot_;
  models::RopeFrequencies frequencies_;
};

}  // namespace shoehorn::engine
