// The levels of symmetric formats, and the nearest of them.
#pragma once

#include "quant/lanes.h"

namespace shoehorn::quant {
namespace {

/// Levels lo..hi.
struct EvenLevels {
  Floats lo, hi;

  EvenLevels(int lowest, int highest) : lo(splat(static_cast<float>(lowest))), hi(splat(static_cast<float>(highest))) {}
  SHOEHORN_MEMBER Floats nearest(Floats v) const { return rounded(clamped(v, lo, hi)); }
  /// In the low byte.
  SHOEHORN_MEMBER Ints code(Floats v) const { return (Ints)(nearest(v) - lo + kRounder); }
};

/// Sixteen ascending levels; halfway between two the lower one counts as the nearest.
#if defined(__AVX2__)

/// By bisection, looking the midpoints up in registers.
class CodebookLevels {
 public:
  explicit CodebookLevels(const int8_t* levels) {
    alignas(64) float level[16], middle[16] = {};
    for (size_t i = 0; i < 16; ++i) level[i] = static_cast<float>(levels[i]);
    for (size_t i = 0; i < 15; ++i) middle[i] = 0.5f * (level[i] + level[i + 1]);
#if defined(__AVX512F__)
    // Indexed by the bits that are known, highest first, the others zero.
    level_ = load(level);
    eighth_ = splat(middle[7]);
    alignas(64) float shifted[16] = {};
    const auto shift = [&](size_t by) {
      for (size_t i = 0; i + by < 15; ++i) shifted[i] = middle[i + by];
      return load(shifted);
    };
    fourth_ = shift(3);
    second_ = shift(1);
    first_ = shift(0);
  }
  SHOEHORN_MEMBER Floats nearest(Floats v) const { return __builtin_shuffle(level_, code(v)); }
  SHOEHORN_MEMBER Ints code(Floats v) const {
    const __m512i zero = _mm512_setzero_si512();
    __m512i at = _mm512_mask_blend_epi32(less(eighth_, v), zero, _mm512_set1_epi32(8));
    at = _mm512_mask_add_epi32(at, less(__builtin_shuffle(fourth_, (Ints)at), v), at, _mm512_set1_epi32(4));
    at = _mm512_mask_add_epi32(at, less(__builtin_shuffle(second_, (Ints)at), v), at, _mm512_set1_epi32(2));
    at = _mm512_mask_add_epi32(at, less(__builtin_shuffle(first_, (Ints)at), v), at, _mm512_set1_epi32(1));
    return (Ints)at;
  }

 private:
  Floats level_, eighth_, fourth_, second_, first_;
#else
    // Indexed by the bits that are known, highest first.
    eighth_ = splat(middle[7]);
    for (size_t i = 0; i < 8; ++i) {
      fourth_[i] = middle[(8 * i + 3) % 16];
      second_[i] = middle[(4 * i + 1) % 16];
      first_[i] = middle[2 * i];
      even_[i] = level[2 * i];
      odd_[i] = level[2 * i + 1];
    }
  }
  SHOEHORN_MEMBER Floats nearest(Floats v) const {
    const Ints at = half_code(v);
    return pick(less(look_up(first_, at), v), look_up(odd_, at), look_up(even_, at));
  }
  SHOEHORN_MEMBER Ints code(Floats v) const {
    const Ints at = half_code(v);
    return at + at - less(look_up(first_, at), v);
  }

 private:
  SHOEHORN_MEMBER static Floats look_up(Floats table, Ints at) {
    return (Floats)_mm256_permutevar8x32_ps((__m256)table, (__m256i)at);
  }
  SHOEHORN_MEMBER Ints half_code(Floats v) const {
    Ints at = -less(eighth_, v);
    at = at + at - less(look_up(fourth_, at), v);
    return at + at - less(look_up(second_, at), v);
  }
  Floats eighth_, fourth_, second_, first_, even_, odd_;
#endif
};

#else

/// By walking up: every midpoint that v exceeds adds a step.
class CodebookLevels {
 public:
  explicit CodebookLevels(const int8_t* levels) : lowest_(levels[0]) {
    for (size_t i = 0; i < 15; ++i) {
      middle_[i] = splat(0.5f * static_cast<float>(levels[i] + levels[i + 1]));
      rise_[i] = splat(static_cast<float>(levels[i + 1] - levels[i]));
    }
  }
  SHOEHORN_MEMBER Floats nearest(Floats v) const {
    Floats level = splat(lowest_);
#pragma GCC unroll 15
    for (size_t i = 0; i < 15; ++i) level += (Floats)(less(middle_[i], v) & (Ints)rise_[i]);
    return level;
  }
  SHOEHORN_MEMBER Ints code(Floats v) const {
    Ints code{};
#pragma GCC unroll 15
    for (size_t i = 0; i < 15; ++i) code -= less(middle_[i], v);
    return code;
  }

 private:
  float lowest_;
  Floats middle_[15], rise_[15];
};

#endif

}  // namespace
}  // namespace shoehorn::quant
