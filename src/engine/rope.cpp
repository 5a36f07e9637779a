#include "engine/rope.h"

#include <cmath>
#include <utility>

namespace shoehorn::engine {

Rope::Rope(models::RopeFrequencies frequencies, models::RopeType type)
    : type_(type), n_rot_(2 * frequencies.per_pair.size()), frequencies_(std::move(frequencies)) {}

void Rope::table(size_t first, size_t n, float* out) const {
  for (size_t t = 0; t < n; ++t) {
    for (const double frequency : frequencies_.per_pair) {
      const double angle = static_cast<double>(first + t) * frequency;
      *out++ = static_cast<float>(std::cos(angle) * frequencies_.magnitude);
      *out++ = static_cast<float>(std::sin(angle) * frequencies_.magnitude);
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
