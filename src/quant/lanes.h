// A register of floats and what the search does with it, for the instruction set that the including file is compiled for.
// Every operation works lane by lane, so that a lane's result is the same bits however wide the register is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/float16.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define SHOEHORN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define SHOEHORN_VECTOR_BYTES 32
#else
#define SHOEHORN_VECTOR_BYTES 16
#endif

/// As SHOEHORN_INLINE, for member functions.
#define SHOEHORN_MEMBER inline __attribute__((always_inline))

namespace shoehorn::quant {
namespace {

typedef float Floats __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
typedef int32_t Ints __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
constexpr size_t kWidth = SHOEHORN_VECTOR_BYTES / sizeof(float);

SHOEHORN_INLINE Floats load(const float* from) {
  Floats v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

SHOEHORN_INLINE void store(float* to, Floats v) { __builtin_memcpy(to, &v, sizeof v); }

SHOEHORN_INLINE Floats splat(float x) { return Floats{} + x; }

SHOEHORN_INLINE Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }

/// Adding it to |v| < 2^22 rounds to nearest even and leaves the integer, in two's complement, in the low bits.
constexpr float kRounder = 0x1.8p23f;

SHOEHORN_INLINE Floats rounded(Floats v) { return (v + kRounder) - kRounder; }

// max_of(a, b) is a > b ? a : b, min_of(a, b) is a < b ? a : b: b where either is NaN.
#if defined(__AVX512F__)

using Mask = __mmask16;
SHOEHORN_INLINE Mask less(Floats a, Floats b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
SHOEHORN_INLINE Mask equal(Floats a, Floats b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
SHOEHORN_INLINE bool any(Mask mask) { return mask != 0; }
/// The first lane that is set, the last if none is.
SHOEHORN_INLINE size_t first_lane(Mask mask) { return static_cast<size_t>(__builtin_ctz(mask | 0x8000u)); }
SHOEHORN_INLINE Mask both(Mask a, Mask b) { return static_cast<Mask>(a & b); }
SHOEHORN_INLINE Floats pick(Mask mask, Floats yes, Floats no) {
  return (Floats)_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes);
}
SHOEHORN_INLINE Floats max_of(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
SHOEHORN_INLINE Floats min_of(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
SHOEHORN_INLINE Floats square_root(Floats v) { return (Floats)_mm512_sqrt_ps((__m512)v); }

/// The low bytes of 16 integers.
SHOEHORN_INLINE void store_bytes_of(uint8_t* to, Ints v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)v));
}

#else

using Mask = Ints;
SHOEHORN_INLINE Mask less(Floats a, Floats b) { return a < b; }
SHOEHORN_INLINE Mask equal(Floats a, Floats b) { return a == b; }
SHOEHORN_INLINE size_t first_lane(Mask mask) {
  size_t lane = 0;
  while (lane + 1 < kWidth && mask[lane] == 0) ++lane;
  return lane;
}
SHOEHORN_INLINE Mask both(Mask a, Mask b) { return a & b; }

#if defined(__AVX2__)
SHOEHORN_INLINE bool any(Mask mask) { return _mm256_movemask_ps((__m256)mask) != 0; }
SHOEHORN_INLINE Floats pick(Mask mask, Floats yes, Floats no) {
  return (Floats)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask);
}
SHOEHORN_INLINE Floats max_of(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
SHOEHORN_INLINE Floats min_of(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
SHOEHORN_INLINE Floats square_root(Floats v) { return (Floats)_mm256_sqrt_ps((__m256)v); }
SHOEHORN_INLINE void store_bytes_of(uint8_t* to, Ints v) {
  const __m256i low = _mm256_and_si256((__m256i)v, _mm256_set1_epi32(0xff));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}
#else
SHOEHORN_INLINE bool any(Mask mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }
SHOEHORN_INLINE Floats pick(Mask mask, Floats yes, Floats no) { return (Floats)((mask & (Ints)yes) | (~mask & (Ints)no)); }
#if defined(__SSE2__)
SHOEHORN_INLINE Floats max_of(Floats a, Floats b) { return (Floats)_mm_max_ps((__m128)a, (__m128)b); }
SHOEHORN_INLINE Floats min_of(Floats a, Floats b) { return (Floats)_mm_min_ps((__m128)a, (__m128)b); }
#else
SHOEHORN_INLINE Floats max_of(Floats a, Floats b) { return pick(b < a, a, b); }
SHOEHORN_INLINE Floats min_of(Floats a, Floats b) { return pick(a < b, a, b); }
#endif
SHOEHORN_INLINE Floats square_root(Floats v) {
  return Floats{__builtin_sqrtf(v[0]), __builtin_sqrtf(v[1]), __builtin_sqrtf(v[2]), __builtin_sqrtf(v[3])};
}
SHOEHORN_INLINE void store_bytes_of(uint8_t* to, Ints v) {
  for (size_t i = 0; i < kWidth; ++i) to[i] = static_cast<uint8_t>(v[i]);
}
#endif

#endif

SHOEHORN_INLINE Floats clamped(Floats v, Floats lo, Floats hi) { return min_of(max_of(v, lo), hi); }

#if defined(__AVX512F__)
constexpr Ints kLaneNumber = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif defined(__AVX2__)
constexpr Ints kLaneNumber = {0, 1, 2, 3, 4, 5, 6, 7};
#else
constexpr Ints kLaneNumber = {0, 1, 2, 3};
#endif

/// Lane l of the result is lane l ^ step, step < kWidth.
SHOEHORN_INLINE Floats exchanged(Floats v, size_t step) {
#if defined(__AVX2__)
  return __builtin_shuffle(v, kLaneNumber ^ static_cast<int>(step));
#else
  return step == 1 ? __builtin_shufflevector(v, v, 1, 0, 3, 2) : __builtin_shufflevector(v, v, 2, 3, 0, 1);
#endif
}

}  // namespace
}  // namespace shoehorn::quant
