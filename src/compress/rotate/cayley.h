// Descent over orthogonal matrices.
#pragma once

#include <vector>

#include "compress/torch.h"

namespace shoehorn::compress {

struct CayleySettings {
  double lr = 0.02;  ///< how far a step turns the rows of the matrices, in radians, root mean square over all of them
  double momentum = 0.9;
};

/// Stochastic gradient descent with momentum along Cayley curves (Li, Fuxin, Todorovic 2020, arXiv:2002.01113, algorithm
/// 1), as SpinQuant learns rotations (Liu et al. 2024, arXiv:2405.16406). The curve's implicit equation is solved by
/// fixed-point iteration; what that leaves of non-orthogonality one Newton-Schulz step removes, so that it does not add
/// up over steps.
class CayleySgd {
 public:
  /// Orthogonal matrices [n, n] in double precision, changed in place.
  CayleySgd(std::vector<at::Tensor> matrices, const CayleySettings& settings);

  /// One step down `gradients` (Euclidean, [n, n] each) at `share` of the rate. Its length is normalized over all matrices
  /// together, so that it does not depend on the loss's unit, and how far they turn in proportion is up to their
  /// gradients. Returns false, with nothing changed, when a gradient is not finite.
  bool step(const std::vector<at::Tensor>& gradients, double share);

  const std::vector<at::Tensor>& matrices() const { return matrices_; }
  /// In the order of the matrices.
  std::vector<at::Tensor>& momenta() { return momenta_; }

 private:
  std::vector<at::Tensor> matrices_, momenta_;
  CayleySettings settings_;
};

/// The largest entry of |R' R - 1|.
double orthogonality_defect(const at::Tensor& matrix);

}  // namespace shoehorn::compress
