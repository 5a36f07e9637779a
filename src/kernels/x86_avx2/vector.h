// The vocabulary of simd/*.inl in AVX2, with the dot products of AVX-VNNI or AVX512-VNNI/VL where the file is compiled for them.
#pragma once

#include <immintrin.h>

#define SHOEHORN_VECTOR_BYTES 32
#include "kernels/simd/vector.h"

namespace shoehorn::kernels {
namespace {

constexpr size_t kGranule = 2;       // tokens that a tile interleaves
constexpr size_t kPanelVectors = 2;  // registers of rows in a panel

SHOEHORN_INLINE F32 to_float(I32 v) { return (F32)_mm256_cvtepi32_ps((__m256i)v); }
SHOEHORN_INLINE I32 round_to_int(F32 v) { return (I32)_mm256_cvtps_epi32((__m256)v); }
SHOEHORN_INLINE F32 absolute(F32 v) { return (F32)_mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256)v); }
SHOEHORN_INLINE F32 larger(F32 a, F32 b) { return (F32)_mm256_max_ps((__m256)a, (__m256)b); }
SHOEHORN_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
SHOEHORN_INLINE float sum(F32 v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
SHOEHORN_INLINE int32_t sum(I32 v) {
  __m128i x = _mm_add_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
  x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}
SHOEHORN_INLINE float largest(F32 v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
constexpr bool kFastBatchInt8 = true;
constexpr size_t kBatchFrom = 17;   // tokens
constexpr size_t kPanelBias = 128;  // dpbusd wants one operand unsigned: panels hold w + 128,
constexpr int kSignedBias = 128;    // and signed codes are shifted

/// acc[l] += sum_k w[4 l + k] * x[4 l + k], w unsigned, x signed
template <bool kSigned>
SHOEHORN_INLINE I32 dot(I32 acc, U8 w, U8 x) {
#if defined(__AVX512VNNI__)
  return (I32)_mm256_dpbusd_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
#else
  return (I32)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)w, (__m256i)x);
#endif
}
#else
constexpr size_t kBatchFrom = 33;       // tokens
constexpr bool kFastBatchInt8 = false;  // three instructions for 32 products: no better than floats, which are exact
constexpr size_t kPanelBias = 0;
constexpr int kSignedBias = 0;

/// acc[l] += sum_k w[4 l + k] * x[4 l + k], x signed; w signed or at most 127, because pairs are added in 16 bits
template <bool kSigned>
SHOEHORN_INLINE I32 dot(I32 acc, U8 w, U8 x) {
  const __m256i pairs = kSigned ? _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)w), _mm256_sign_epi8((__m256i)x, (__m256i)w))
                                : _mm256_maddubs_epi16((__m256i)w, (__m256i)x);
  return acc + (I32)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

#define SHOEHORN_OWN_TERNARY_PRODUCTS
/// acc + the products of 256 codes of at most two with int8, in any order of lanes: all fit 16 bits
SHOEHORN_INLINE I32 ternary_products(I32 acc, const U8* w, const int8_t* x) {
  __m256i sums = {};
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA {
    sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16((__m256i)w[i], load<__m256i>(x + i * kBytes)));
  });
  return acc + (I32)_mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}
#endif

/// Token kToken of a granule of int8 quads: acc[l] += sum_k w[4 l + k] * tile[4 kToken + k]
template <size_t kToken>
SHOEHORN_INLINE I32 dot_token(I32 acc, U8 w, const std::byte* tile) {
  return dot<true>(acc, w, (U8)splat(load<int32_t>(tile + 4 * kToken)));
}

/// Four registers of codes, each two groups of 16, to quads: register k has the k-th four codes of all eight groups, group 2 i + a
/// in lane 4 a + i.
SHOEHORN_INLINE void transpose_quads(U8* q) {
  const __m256i low = _mm256_unpacklo_epi32((__m256i)q[0], (__m256i)q[1]), high = _mm256_unpackhi_epi32((__m256i)q[0], (__m256i)q[1]);
  const __m256i low2 = _mm256_unpacklo_epi32((__m256i)q[2], (__m256i)q[3]), high2 = _mm256_unpackhi_epi32((__m256i)q[2], (__m256i)q[3]);
  q[0] = (U8)_mm256_unpacklo_epi64(low, low2);
  q[1] = (U8)_mm256_unpackhi_epi64(low, low2);
  q[2] = (U8)_mm256_unpacklo_epi64(high, high2);
  q[3] = (U8)_mm256_unpackhi_epi64(high, high2);
}
/// Values of eight groups to the lanes of their quads.
SHOEHORN_INLINE F32 lanes_of_quads(F32 groups) {
  return (F32)_mm256_permutevar8x32_ps((__m256)groups, _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0));
}

/// The value of each pair of codes' group, for register i of codes.
SHOEHORN_INLINE U16 spread_to_pairs(const uint16_t* groups, size_t i) {
  return (U16)_mm256_set_m128i(_mm_set1_epi16(static_cast<short>(groups[2 * i + 1])), _mm_set1_epi16(static_cast<short>(groups[2 * i])));
}

/// Sixteen integers as int8; v is 16 / kLanes registers.
SHOEHORN_INLINE void store_int8(int8_t* to, const I32* v) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

/// kLanes integers as 16 bits, modulo 2^16.
SHOEHORN_INLINE void store_int16(uint16_t* to, I32 v) {
  const __m256i low = _mm256_and_si256((__m256i)v, _mm256_set1_epi32(0xffff));
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(words));
}

SHOEHORN_INLINE F32 load_f16(const uint16_t* from) {
  return (F32)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
SHOEHORN_INLINE F32 load_bf16(const uint16_t* from) {
  return (F32)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), 16);
}
/// Twice 16 bytes.
SHOEHORN_INLINE U8 join(const quant::Bytes* part) { return (U8)_mm256_set_m128i((__m128i)part[1], (__m128i)part[0]); }

/// (a + b + 1) / 2
SHOEHORN_INLINE U8 average(U8 a, U8 b) { return (U8)_mm256_avg_epu8((__m256i)a, (__m256i)b); }

/// kLanes bytes as integers.
SHOEHORN_INLINE I32 widen(const uint8_t* from) { return (I32)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))); }
SHOEHORN_INLINE I32 widen(const int8_t* from) { return (I32)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))); }

SHOEHORN_INLINE void store_f16(uint16_t* to, F32 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}

/// Lane i: the sum of register i.
SHOEHORN_INLINE F32 lane_sums(const F32 (&v)[8]) {
  const auto four = [&](size_t i) SHOEHORN_LAMBDA {
    return _mm256_hadd_ps(_mm256_hadd_ps((__m256)v[i], (__m256)v[i + 1]), _mm256_hadd_ps((__m256)v[i + 2], (__m256)v[i + 3]));
  };
  const __m256 low = four(0), high = four(4);
  return (F32)_mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

/// v * 2^n for whole n in the range of normal floats
SHOEHORN_INLINE F32 times_power_of_two(F32 v, F32 n) { return v * (F32)((round_to_int(n) + 127) << 23); }
SHOEHORN_INLINE F32 round_to_whole(F32 v) {
  return (F32)_mm256_round_ps((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/// 8 x 8 units of 32 bits.
SHOEHORN_INLINE void transpose(I32 (&r)[8]) {
  __m256i t[8], u[8];
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    t[2 * i] = _mm256_unpacklo_epi32((__m256i)r[2 * i], (__m256i)r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi32((__m256i)r[2 * i], (__m256i)r[2 * i + 1]);
  });
  unroll<2>([&](auto i) SHOEHORN_LAMBDA {
    u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  });
  unroll<4>([&](auto k) SHOEHORN_LAMBDA {
    r[k] = (I32)_mm256_permute2x128_si256(u[k], u[4 + k], 0x20);
    r[4 + k] = (I32)_mm256_permute2x128_si256(u[k], u[4 + k], 0x31);
  });
}

}  // namespace
}  // namespace shoehorn::kernels
