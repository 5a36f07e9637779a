// Four floats at a time with GCC's vector extension: SSE2 or NEON at the baseline, no intrinsics. For the encoders,
// whose float sums the compiler may not reorder by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/float16.h"

namespace shoehorn::quant {

using Lanes = float __attribute__((vector_size(16)));
inline constexpr size_t kLanes = 4;

SHOEHORN_INLINE Lanes load_lanes(const float* p) {
  Lanes v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

SHOEHORN_INLINE void store_lanes(float* p, Lanes v) { std::memcpy(p, &v, sizeof(v)); }

SHOEHORN_INLINE Lanes splat(float x) { return Lanes{x, x, x, x}; }

SHOEHORN_INLINE float sum_lanes(Lanes v) { return (v[0] + v[1]) + (v[2] + v[3]); }

SHOEHORN_INLINE Lanes clamp_lanes(Lanes v, float lo, float hi) {
  const Lanes at_least = v > splat(lo) ? v : splat(lo);
  return at_least < splat(hi) ? at_least : splat(hi);
}

/// Round to nearest even for |v| < 2^22: adding 1.5 * 2^23 pushes the fraction out of the mantissa.
SHOEHORN_INLINE Lanes round_lanes(Lanes v) {
  const Lanes magic = splat(0x1.8p23f);
  return (v + magic) - magic;
}

}  // namespace shoehorn::quant
