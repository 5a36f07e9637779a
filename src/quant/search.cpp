#include "quant/search.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/float16.h"

namespace shoehorn::quant {
namespace {

/// 2^-25 is the largest number that rounds to zero as a binary16; codes multiply a scale by at least one.
constexpr float kUnreachable = 0x1p-25f;

/// No weight is left out of a fit altogether: a sub-block whose errors do not matter still gets sensible scales.
constexpr float kLeastWeight = 1e-6f;

void default_weights(const float* x, size_t n, size_t sub_size, Weighting weighting, float* w) {
  switch (weighting) {
    case Weighting::kUniform:
      std::fill_n(w, n, 1.0f);
      return;
    case Weighting::kMagnitude:
      for (size_t i = 0; i < n; ++i) w[i] = std::fabs(x[i]);
      return;
    case Weighting::kSquare:
      for (size_t i = 0; i < n; ++i) w[i] = x[i] * x[i];
      return;
    case Weighting::kRmsPlusMagnitude:
      for (size_t s = 0; s < n; s += sub_size) {
        float square = 0;
        for (size_t i = s; i < s + sub_size; ++i) square += x[i] * x[i];
        const float rms = std::sqrt(square / static_cast<float>(sub_size));
        for (size_t i = s; i < s + sub_size; ++i) w[i] = rms + std::fabs(x[i]);
      }
      return;
  }
}

}  // namespace

bool prepare(const float* in, const float* importance, size_t n, size_t sub_size, Weighting weighting, SearchBlock& out) {
  float largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(in[i]));
  if (!(largest > kUnreachable)) return false;

  // 2^-127 is a denormal; 2^126 is as far as the scaling need go.
  const int exponent = std::min(std::ilogb(largest), 126);
  out.unit = std::ldexp(1.0f, exponent);
  const float inverse = std::ldexp(1.0f, -exponent);
  for (size_t i = 0; i < n; ++i) out.x[i] = in[i] * inverse;

  float most = 0;
  if (importance != nullptr) {
    for (size_t i = 0; i < n; ++i) most = std::max(most, importance[i]);
  }
  if (!(most > 0) || !std::isfinite(most)) {
    default_weights(out.x, n, sub_size, weighting, out.w);
  } else {
    // Within a column's importance large weights still count for more than small ones: what importance averages away is
    // that they also carry more of the error of the layers before.
    float square = 0;
    for (size_t i = 0; i < n; ++i) square += out.x[i] * out.x[i];
    const float mean_square = square / static_cast<float>(n);
    for (size_t i = 0; i < n; ++i) out.w[i] = importance[i] / most * std::sqrt(mean_square + out.x[i] * out.x[i]);
  }
  if (const char* e = getenv("QW")) { float a, pw; int pi; sscanf(e, "%f,%f,%d", &a, &pw, &pi);
    for (size_t s0 = 0; s0 < n; s0 += sub_size) { float sq = 0; for (size_t i = s0; i < s0 + sub_size; ++i) sq += out.x[i]*out.x[i]; float rms = std::sqrt(sq/float(sub_size));
    for (size_t i = s0; i < s0 + sub_size; ++i) out.w[i] = std::pow(std::pow(a * rms, (float)pi) + std::pow(std::fabs(out.x[i]), (float)pi), pw/(float)pi) * (most > 0 ? importance[i]/most : 1.0f); } }
  float heaviest = 0;
  for (size_t i = 0; i < n; ++i) heaviest = std::max(heaviest, out.w[i]);
  for (size_t i = 0; i < n; ++i) out.w[i] = std::max(out.w[i], heaviest * kLeastWeight);
  return true;
}

uint16_t to_stored(float x, float unit, float& stored) {
  // The quotient of a large x and the product with a large unit may overflow; clamp in the larger type.
  const double exact = std::clamp(static_cast<double>(x) * static_cast<double>(unit), -65504.0, 65504.0);
  const uint16_t bits = fp32_to_fp16(static_cast<float>(exact));
  stored = fp16_to_fp32(bits) / unit;
  return bits;
}

}  // namespace shoehorn::quant
