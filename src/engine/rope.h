// Rotary position embedding (Su et al. 2021, arXiv:2104.09864) with linear, YaRN (Peng et al. 2023, arXiv:2309.00071) and Llama 3
// scaling.
#pragma once

#include <cstddef>
#include <vector>

#include "models/model.h"

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
  double magnitude_ = 1;
  std::vector<double> frequencies_;  // [n_rot / 2], radians per position
};

}  // namespace shoehorn::engine
