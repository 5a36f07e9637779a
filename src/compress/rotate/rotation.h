// Orthogonal matrices that vectors are rotated by.
#pragma once

#include <cstdint>
#include <string>

#include "compress/hadamard_rows.h"

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
  /// R as it is, which may be a variable that gradients are wanted of; n 0: a place where nothing is rotated.
  static Rotation of(const at::Tensor& matrix);

  int64_t n() const { return n_; }
  /// How it is made: "12 x 28 x 32" and the like, or "dense".
  const std::string& describe() const { return description_; }

  /// Rows of x [..., n], their elements times `factors` [n] where these are given, times R: in the precision of R, which is
  /// double where it was drawn. What is drawn takes memory for the result and a piece of x in double precision.
  at::Tensor rows(const at::Tensor& x, const at::Tensor& factors = {}) const;
  /// R' w for w [n, m]: columns rotated.
  at::Tensor columns(const at::Tensor& w) const;
  /// R itself.
  at::Tensor matrix() const;
  /// Of a Hadamard matrix: the signs [n] that R = diag(signs) H' has.
  const at::Tensor& signs() const { return signs_; }

 private:
  int64_t n_ = 0;
  std::string description_ = "dense";
  at::Tensor signs_;        // [n], with transform_
  HadamardRows transform_;  // where dense_ is undefined
  at::Tensor dense_;        // [n, n]
};

}  // namespace shoehorn::compress
