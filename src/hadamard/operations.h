// The steps that a transform consists of. An instruction set may have faster ones (kernels/kernel.h).
#pragma once

#include <cstddef>

namespace shoehorn::hadamard {

/// x [n] in blocks of 2^log2 (n is a multiple): each times Sylvester's matrix, and times scale.
template <class T>
void butterflies(T* x, size_t n, size_t log2, T scale);

/// out [order, stride] = matrix [order, order] times x [order, stride].
template <class T>
void mix_rows(const T* matrix, size_t order, const T* x, size_t stride, T* out);

template <class T>
struct Operations {
  void (*butterflies)(T* x, size_t n, size_t log2, T scale) = hadamard::butterflies<T>;
  void (*mix_rows)(const T* matrix, size_t order, const T* x, size_t stride, T* out) = hadamard::mix_rows<T>;
};

extern template void butterflies<float>(float*, size_t, size_t, float);
extern template void butterflies<double>(double*, size_t, size_t, double);
extern template void mix_rows<float>(const float*, size_t, const float*, size_t, float*);
extern template void mix_rows<double>(const double*, size_t, const double*, size_t, double*);

}  // namespace shoehorn::hadamard
