// Rotary position embedding of heads; the frequencies are models/rope.h's.
#pragma once

#include <cstddef>

#include "models/rope.h"

namespace shoehorn::engine {

/// Rotation angles: one frequency per pair of elements and a magnitude.
class Rope {
 public:
  Rope(models::RopeFrequencies frequencies, models::RopeType type);

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
