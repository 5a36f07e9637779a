#include "engine/rope.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::engine {
namespace {

using models::RopeScalingType;

/// YaRN's share of the unscaled frequency for pair i: 1 for fast rotations, 0 for slow ones, a ramp between (eq. 17-18).
double yarn_extrapolation(const models::Hparams& h, double i) {
  const auto pair_with_rotations = [&](double rotations) {
    return h.n_rot * std::log(h.rope_scaling.original_context / (rotations * 2 * M_PI)) /
           (2 * std::log(static_cast<double>(h.rope_theta)));
  };
  const double low = std::max(0.0, std::floor(pair_with_rotations(static_cast<double>(h.rope_scaling.beta_fast))));
  const double high = std::min(h.n_rot - 1.0, std::ceil(pair_with_rotations(static_cast<double>(h.rope_scaling.beta_slow))));
  return 1 - std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
}

}  // namespace

Rope::Rope(const models::Hparams& h, models::RopeType type, const float* freq_divisors) : type_(type), n_rot_(h.n_rot) {
  const models::RopeScaling& scaling = h.rope_scaling;
  const double factor = static_cast<double>(scaling.factor);
  for (size_t i = 0; i < n_rot_ / 2; ++i) {
    double frequency = std::pow(static_cast<double>(h.rope_theta), -2.0 * static_cast<double>(i) / static_cast<double>(n_rot_));
    if (freq_divisors != nullptr) frequency /= static_cast<double>(freq_divisors[i]);
    if (scaling.type == RopeScalingType::kLinear) frequency /= factor;
    if (scaling.type == RopeScalingType::kYarn) {
      const double kept = yarn_extrapolation(h, static_cast<double>(i));
      frequency = frequency / factor * (1 - kept) + frequency * kept;
    }
    frequencies_.push_back(frequency);
  }
  if (scaling.type == RopeScalingType::kYarn) {
    magnitude_ = static_cast<double>(scaling.attn_factor) * (1 + 0.1 * std::log(factor));
  }
}

void Rope::table(size_t first, size_t n, float* out) const {
  for (size_t t = 0; t < n; ++t) {
    for (const double frequency : frequencies_) {
      const double angle = static_cast<double>(first + t) * frequency;
      *out++ = static_cast<float>(std::cos(angle) * magnitude_);
      *out++ = static_cast<float>(std::sin(angle) * magnitude_);
    }
  }
}

void Rope::rotate(float* head, const float* row) const {
  const size_t half = n_rot_ / 2;
  const bool norm = type_ == models::RopeType::kNorm;
  const size_t step = norm ? 2 : 1, partner = norm ? 1 : half;
  for (size_t i = 0; i < half; ++i) {
    float& a = head[i * step];
    float& b = head[i * step + partner];
    const float cosine = row[2 * i], sine = row[2 * i + 1], a0 = a;
    a = a0 * cosine - b * sine;
    b = a0 * sine + b * cosine;
  }
}

}  // namespace shoehorn::engine
