// Multiplying vectors with the matrices of a plan.
#pragma once

#include <vector>

#include "hadamard/matrix.h"
#include "hadamard/operations.h"

namespace shoehorn::hadamard {

/// The orthogonal matrix of a plan, Hadamard matrices over the square root of their order, without making it:
/// O(block * (log2 + dense)) per block. T is float or double.
template <class T>
class Transform {
 public:
  explicit Transform(const Plan& plan, Operations<T> operations = {});

  size_t n() const { return plan_.n; }
  const Plan& plan() const { return plan_; }
  /// Values of scratch that apply() and undo() need.
  size_t scratch() const { return matrices_.empty() ? 0 : plan_.block; }
  /// x = H x; x [n], or [n_vectors * n]
  void apply(T* x, T* scratch, size_t n_vectors = 1) const { run(x, matrices_, scratch, n_vectors); }
  /// x = H' x, which undoes apply() up to rounding.
  void undo(T* x, T* scratch, size_t n_vectors = 1) const { run(x, transposed_, scratch, n_vectors); }

 private:
  using Matrices = std::vector<std::vector<T>>;  // of plan_.factors, scaled by 1 / sqrt(order)
  void run(T* x, const Matrices& matrices, T* scratch, size_t n_vectors) const;

  Plan plan_;
  Operations<T> operations_;
  Matrices matrices_, transposed_;
};

extern template class Transform<float>;
extern template class Transform<double>;

}  // namespace shoehorn::hadamard
