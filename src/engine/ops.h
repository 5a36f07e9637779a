// The small operations between matrix products, on rows of floats.
#pragma once

#include <cstddef>

namespace shoehorn::engine {

/// out[i] = x[i] / sqrt(mean(x^2) + eps) * gain[i]; out may be x. Zhang & Sennrich 2019, arXiv:1910.07467.
void rms_norm(const float* x, const float* gain, size_t n, float eps, float* out);

/// gate[i] = silu(gate[i]) * up[i]. Shazeer 2020, arXiv:2002.05202.
void swiglu(float* gate, const float* up, size_t n);

/// x[i] = exp(scale * x[i]) / sum, stable.
void softmax(float* x, size_t n, float scale);

/// x[i] += y[i]
void add(float* x, const float* y, size_t n);

}  // namespace shoehorn::engine
