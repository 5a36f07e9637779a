#include "hadamard/transform.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::hadamard {
namespace {

/// Sylvester's matrix of order n, with neighbours first: butterflies of ever wider pairs.
template <class T>
void butterflies(T* x, size_t n) {
  for (size_t half = 1; half < n; half *= 2) {
    for (size_t first = 0; first < n; first += 2 * half) {
      for (size_t i = first; i < first + half; ++i) {
        const T a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}

/// A dense matrix [order, order] times x [order, stride], in place.
template <class T>
void multiply(const std::vector<T>& matrix, size_t order, T* x, size_t stride, bool transposed,
              std::vector<T>& scratch) {
  scratch.assign(order * stride, 0);
  for (size_t i = 0; i < order; ++i) {
    T* to = scratch.data() + i * stride;
    for (size_t j = 0; j < order; ++j) {
      const T factor = transposed ? matrix[j * order + i] : matrix[i * order + j];
      const T* from = x + j * stride;
      for (size_t k = 0; k < stride; ++k) to[k] += factor * from[k];
    }
  }
  std::copy(scratch.begin(), scratch.end(), x);
}

}  // namespace

template <class T>
Transform<T>::Transform(const Plan& plan) : plan_(plan) {
  for (const Factor& factor : plan.factors) {
    const std::vector<int8_t> signs = matrix(factor);
    const T scale = 1 / std::sqrt(static_cast<T>(factor.order));
    std::vector<T>& scaled = matrices_.emplace_back();
    scaled.reserve(signs.size());
    for (const int8_t sign : signs) scaled.push_back(sign * scale);
  }
}

template <class T>
void Transform<T>::run(T* x, bool transposed) const {
  const size_t fast = size_t{1} << plan_.log2;
  const T scale = 1 / std::sqrt(static_cast<T>(fast));
  std::vector<T> scratch;
  for (T* block = x; block < x + plan_.n; block += plan_.block) {
    for (size_t i = 0; i < plan_.block; i += fast) butterflies(block + i, fast);
    for (size_t i = 0; i < plan_.block; ++i) block[i] *= scale;
    // Factors of a Kronecker product act on indices of their own, so their order does not matter.
    size_t stride = fast;
    for (size_t f = plan_.factors.size(); f-- > 0;) {
      const size_t order = plan_.factors[f].order;
      for (size_t i = 0; i < plan_.block; i += order * stride)
        multiply(matrices_[f], order, block + i, stride, transposed, scratch);
      stride *= order;
    }
  }
}

template class Transform<float>;
template class Transform<double>;

}  // namespace shoehorn::hadamard
