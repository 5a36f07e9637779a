#include "hadamard/transform.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::hadamard {

/// Neighbours first: butterflies of ever wider pairs.
template <class T>
void butterflies(T* x, size_t n, size_t log2, T scale) {
  for (size_t half = 1; half < size_t{1} << log2; half *= 2) {
    for (size_t first = 0; first < n; first += 2 * half) {
      for (size_t i = first; i < first + half; ++i) {
        const T a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
  for (size_t i = 0; i < n; ++i) x[i] *= scale;
}

template <class T>
void mix_rows(const T* matrix, size_t order, const T* x, size_t stride, T* out) {
  std::fill_n(out, order * stride, T{0});
  for (size_t i = 0; i < order; ++i) {
    for (size_t j = 0; j < order; ++j) {
      const T factor = matrix[i * order + j];
      for (size_t k = 0; k < stride; ++k) out[i * stride + k] += factor * x[j * stride + k];
    }
  }
}

template <class T>
Transform<T>::Transform(const Plan& plan, Operations<T> operations) : plan_(plan), operations_(operations) {
  for (const Factor& factor : plan.factors) {
    const std::vector<int8_t> signs = matrix(factor);
    const T scale = 1 / std::sqrt(static_cast<T>(factor.order));
    std::vector<T>&scaled = matrices_.emplace_back(signs.size()), &transposed = transposed_.emplace_back(signs.size());
    for (size_t i = 0; i < signs.size(); ++i) {
      scaled[i] = signs[i] * scale;
      transposed[i % factor.order * factor.order + i / factor.order] = scaled[i];
    }
  }
}

template <class T>
void Transform<T>::run(T* x, const Matrices& matrices, T* scratch, size_t n_vectors) const {
  const size_t n = plan_.n * n_vectors;
  operations_.butterflies(x, n, plan_.log2, 1 / std::sqrt(static_cast<T>(size_t{1} << plan_.log2)));
  // Factors of a Kronecker product act on indices of their own, so their order does not matter.
  for (T* block = x; !matrices.empty() && block < x + n; block += plan_.block) {
    size_t stride = size_t{1} << plan_.log2;
    for (size_t f = matrices.size(); f-- > 0;) {
      const size_t order = plan_.factors[f].order, values = order * stride;
      for (size_t i = 0; i < plan_.block; i += values) {
        operations_.mix_rows(matrices[f].data(), order, block + i, stride, scratch);
        std::copy_n(scratch, values, block + i);
      }
      stride = values;
    }
  }
}

template class Transform<float>;
template class Transform<double>;
template void butterflies<float>(float*, size_t, size_t, float);
template void butterflies<double>(double*, size_t, size_t, double);
template void mix_rows<float>(const float*, size_t, const float*, size_t, float*);
template void mix_rows<double>(const double*, size_t, const double*, size_t, double*);

}  // namespace shoehorn::hadamard
