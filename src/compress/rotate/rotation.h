// Orthogonal matrices that vectors are rotated by.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "compress/torch.h"
#include "hadamard/transform.h"

namespace shoehorn::compress {

enum class RotationKind : uint8_t {
  kHadamard,    ///< signs drawn at random, then a Hadamard matrix (QuaRot, Ashkboos et al. 2024, arXiv:2404.00456)
  kOrthogonal,  ///< uniform over the orthogonal matrices: Q of a normal matrix's QR, signs by R's diagonal (Mezzadri
                ///< 2007)
};

/// R [n, n] with R R' = 1.
class Rotation {
 public:
  /// The same seed gives the same matrix. Fails for a Hadamard matrix of odd order.
  static Expected<Rotation> random(RotationKind kind, int64_t n, uint64_t seed);

  int64_t n() const { return n_; }
  /// How it is made: "12 x 28 x 32" and the like, or "dense".
  std::string describe() const;

  /// Rows of x [..., n] times R, in double precision.
  at::Tensor rows(const at::Tensor& x) const;
  /// R' w for w [n, m]: columns rotated, in double precision.
  at::Tensor columns(const at::Tensor& w) const;

 private:
  int64_t n_ = 0;
  at::Tensor signs_;                                              // [n], with transform_
  std::shared_ptr<const hadamard::Transform<double>> transform_;  // null: dense_
  at::Tensor dense_;                                              // [n, n]
};

}  // namespace shoehorn::compress
