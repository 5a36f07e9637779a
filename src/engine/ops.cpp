#include "engine/ops.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::engine {

void rms_norm(const float* x, const float* gain, size_t n, float eps, float* out) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const auto scale = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps)));
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * scale * gain[i];
}

void swiglu(float* gate, const float* up, size_t n) {
  for (size_t i = 0; i < n; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
}

void softmax(float* x, size_t n, float scale) {
  const float max = *std::max_element(x, x + n);
  float sum = 0;
  for (size_t i = 0; i < n; ++i) {
    x[i] = std::exp((x[i] - max) * scale);
    sum += x[i];
  }
  const float inverse = 1 / sum;
  for (size_t i = 0; i < n; ++i) x[i] *= inverse;
}

void add(float* x, const float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] += y[i];
}

}  // namespace shoehorn::engine
