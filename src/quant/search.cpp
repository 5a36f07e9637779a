#include "quant/search.h"

#include <algorithm>
#include <cmath>

#include "base/float16.h"
#include "quant/lanes.h"

namespace shoehorn::quant {
namespace {

/// 2^-25 is the largest number that rounds to zero as a binary16; codes multiply a scale by at least one.
constexpr float kUnreachable = 0x1p-25f;

/// No weight is left out of a fit altogether: a sub-block whose errors do not matter still gets sensible scales.
constexpr float kLeastWeight = 1e-6f;

}  // namespace

bool prepare(const float* in, const float* importance, size_t n, size_t sub_size, float rms_share, SearchBlock& out) {
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
  const bool weighted = most > 0 && std::isfinite(most);
  for (size_t s = 0; s < n; s += sub_size) {
    float square = 0;
    for (size_t i = s; i < s + sub_size; ++i) square += out.x[i] * out.x[i];
    const float base = rms_share * std::sqrt(square / static_cast<float>(sub_size));
    for (size_t i = s; i < s + sub_size; ++i) {
      out.w[i] = base + std::fabs(out.x[i]);
      if (weighted) out.w[i] *= importance[i] / most;
    }
  }
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

uint16_t to_stored_scale(float x, float unit, float& stored) {
  const uint16_t bits = to_stored(x, unit, stored);
  if ((bits & 0x7fffu) != 0 || x == 0) return bits;
  stored = std::copysign(0x1p-24f / unit, x);
  return bits | 1u;
}

float fit_factor(const SubBlockValues& values, int lo, int hi, float unit) {
  float extreme = 0;
  for (const float v : values.value) {
    if (std::fabs(v) > std::fabs(extreme) && (lo < 0 || v > 0)) extreme = v;
  }
  if (std::fabs(extreme) < 1e-20f) return 0;
  float best = 0, best_gain = -1, refitted = 0;
  const auto try_factor = [&](float d) {
    float stored;
    to_stored_scale(d, unit, stored);
    const Lanes inverse = splat(1.0f / stored);
    Lanes vq = splat(0), qq = splat(0);
    for (size_t i = 0; i < 16; i += kLanes) {
      const Lanes v = load_lanes(values.value + i);
      const Lanes q = round_lanes(clamp_lanes(v * inverse, static_cast<float>(lo), static_cast<float>(hi)));
      const Lanes wq = load_lanes(values.weight + i) * q;
      vq += wq * v;
      qq += wq * q;
    }
    const float sum_vq = sum_lanes(vq), sum_qq = sum_lanes(qq);
    const float gain = stored * (2 * sum_vq - stored * sum_qq);
    if (gain <= best_gain) return false;
    best_gain = gain;
    best = stored;
    refitted = sum_qq > 0 ? sum_vq / sum_qq : 0.0f;
    return true;
  };
  for (const int end : {lo, hi}) {
    if (end == 0) continue;
    // A subnormal factor has few digits; smaller integers times a larger one may then come closer.
    const bool coarse = std::fabs(extreme * unit / static_cast<float>(end)) < 0x1p-14f;
    const float top = static_cast<float>(std::abs(end));
    const float from = coarse ? top / 4 : top - 1.5f, step = coarse ? std::max(top / 64, 0.5f) : 0.25f;
    for (float reach = from; reach <= top + 1.0f; reach += step) {
      try_factor((end < 0 ? -extreme : extreme) / reach);
    }
  }
  while (refitted != 0 && try_factor(refitted)) {
  }
  return best;
}

}  // namespace shoehorn::quant
