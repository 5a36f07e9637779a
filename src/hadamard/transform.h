// Multiplying vectors with the matrices of a plan.
#pragma once

#include <span>
#include <vector>

#include "hadamard/matrix.h"

namespace shoehorn::hadamard {

/// The orthogonal matrix of a plan, Hadamard matrices over the square root of their order, without making it:
/// O(block * (log2 + dense)) per block. T is float or double.
template <class T>
class Transform {
 public:
  explicit Transform(const Plan& plan);

  size_t n() const { return plan_.n; }
  const Plan& plan() const { return plan_; }
  /// x = H x; x [n]
  void apply(T* x) const { run(x, false); }
  /// x = H' x, which undoes apply() up to rounding.
  void undo(T* x) const { run(x, true); }

 private:
  void run(T* x, bool transposed) const;

  Plan plan_;
  std::vector<std::vector<T>> matrices_;  // of plan_.factors, scaled by 1 / sqrt(order)
};

extern template class Transform<float>;
extern template class Transform<double>;

}  // namespace shoehorn::hadamard
