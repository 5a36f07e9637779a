#include "models/rope.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::models {
namespace {

/// YaRN's share of the unscaled frequency for pair i: 1 for fast rotations, 0 for slow ones, a ramp between (eq. 17-18).
double yarn_extrapolation(const Hparams& h, double i) {
  const auto pair_with_rotations = [&](double rotations) {
    return h.n_rot * std::log(h.rope_scaling.original_context / (rotations * 2 * M_PI)) /
           (2 * std::log(static_cast<double>(h.rope_theta)));
  };
  const double low = std::max(0.0, std::floor(pair_with_rotations(static_cast<double>(h.rope_scaling.beta_fast))));
  const double high = std::min(h.n_rot - 1.0, std::ceil(pair_with_rotations(static_cast<double>(h.rope_scaling.beta_slow))));
  return 1 - std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
}

}  // namespace

RopeFrequencies rope_frequencies(const Hparams& h, const float* freq_divisors, uint64_t n_ctx) {
  const RopeScaling& scaling = h.rope_scaling;
  if (scaling.type == RopeScalingType::kLongRope) {
    freq_divisors = (n_ctx > scaling.original_context ? scaling.long_factors : scaling.short_factors).data();
  }
  const double factor = static_cast<double>(scaling.factor);
  RopeFrequencies out;
  for (uint32_t i = 0; i < h.n_rot / 2; ++i) {
    double frequency = std::pow(static_cast<double>(h.rope_theta), -2.0 * i / h.n_rot);
    if (freq_divisors != nullptr) frequency /= static_cast<double>(freq_divisors[i]);
    if (scaling.type == RopeScalingType::kLinear) frequency /= factor;
    if (scaling.type == RopeScalingType::kYarn) {
      const double kept = yarn_extrapolation(h, i);
      frequency = frequency / factor * (1 - kept) + frequency * kept;
    }
    out.per_pair.push_back(frequency);
  }
  if (scaling.type == RopeScalingType::kYarn) {
    out.magnitude = static_cast<double>(scaling.attn_factor) * (1 + 0.1 * std::log(factor));
  }
  if (scaling.type == RopeScalingType::kLongRope) out.magnitude = static_cast<double>(scaling.attn_factor);
  return out;
}

RopeFrequencies window_rope_frequencies(const Hparams& hparams, const float* freq_divisors, uint64_t n_ctx) {
  if (hparams.window_rope_theta == 0) return rope_frequencies(hparams, freq_divisors, n_ctx);
  Hparams h = hparams;
  h.rope_theta = hparams.window_rope_theta;
  h.rope_scaling = {};
  return rope_frequencies(h, nullptr, n_ctx);
}

}  // namespace shoehorn::models
