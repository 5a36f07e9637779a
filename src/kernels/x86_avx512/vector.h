// The vocabulary of simd/*.inl in AVX-512 (F, BW, DQ, VL, VNNI).
#pragma once

#include <immintrin.h>

#define SHOEHORN_VECTOR_BYTES 64
#include "kernels/simd/vector.h"

namespace shoehorn::kernels {
namespace {

constexpr size_t kGranule = 4;            // tokens that a tile interleaves
constexpr size_t kPanelVectors = 2;       // registers of rows in a panel
constexpr size_t kPanelBias = 128;        // dpbusd wants one operand unsigned: panels hold w + 128,
constexpr int kSignedBias = 128;          // and signed codes are shifted
constexpr bool kFastBatchInt8 = true;
constexpr size_t kBatchFrom = 17;         // tokens

SHOEHORN_INLINE F32 to_float(I32 v) { return (F32)_mm512_cvtepi32_ps((__m512i)v); }
SHOEHORN_INLINE I32 round_to_int(F32 v) { return (I32)_mm512_cvtps_epi32((__m512)v); }
SHOEHORN_INLINE F32 absolute(F32 v) { return (F32)_mm512_abs_ps((__m512)v); }
SHOEHORN_INLINE F32 larger(F32 a, F32 b) { return (F32)_mm512_max_ps((__m512)a, (__m512)b); }
SHOEHORN_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
SHOEHORN_INLINE float sum(F32 v) { return _mm512_reduce_add_ps((__m512)v); }
SHOEHORN_INLINE int32_t sum(I32 v) { return _mm512_reduce_add_epi32((__m512i)v); }
SHOEHORN_INLINE float largest(F32 v) { return _mm512_reduce_max_ps((__m512)v); }

/// acc[l] += sum_k w[4 l + k] * x[4 l + k], w unsigned, x signed
template <bool kSigned>
SHOEHORN_INLINE I32 dot(I32 acc, U8 w, U8 x) { return (I32)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x); }

/// Token kToken of a granule of int8 quads: acc[l] += sum_k w[4 l + k] * tile[4 kToken + k]
template <size_t kToken>
SHOEHORN_INLINE I32 dot_token(I32 acc, U8 w, const std::byte* tile) {
  return dot<true>(acc, w, (U8)splat(load<int32_t>(tile + 4 * kToken)));
}

/// Four registers of codes, each four groups of 16, to quads: register k has the k-th four codes of all sixteen groups, group
/// 4 i + a in lane 4 a + i.
SHOEHORN_INLINE void transpose_quads(U8* q) {
  const __m512i low = _mm512_unpacklo_epi32((__m512i)q[0], (__m512i)q[1]), high = _mm512_unpackhi_epi32((__m512i)q[0], (__m512i)q[1]);
  const __m512i low2 = _mm512_unpacklo_epi32((__m512i)q[2], (__m512i)q[3]), high2 = _mm512_unpackhi_epi32((__m512i)q[2], (__m512i)q[3]);
  q[0] = (U8)_mm512_unpacklo_epi64(low, low2);
  q[1] = (U8)_mm512_unpackhi_epi64(low, low2);
  q[2] = (U8)_mm512_unpacklo_epi64(high, high2);
  q[3] = (U8)_mm512_unpackhi_epi64(high, high2);
}
/// Values of sixteen groups to the lanes of their quads.
SHOEHORN_INLINE F32 lanes_of_quads(F32 groups) {
  return (F32)_mm512_permutexvar_ps(_mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0), (__m512)groups);
}

/// The value of each pair of codes' group, for register i of codes.
SHOEHORN_INLINE U16 spread_to_pairs(const uint16_t* groups, size_t i) {
  const __m512i index = _mm512_srli_epi16(_mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14,
                                                           13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 3);
  const __m512i all = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(groups)));
  return (U16)_mm512_permutexvar_epi16(_mm512_add_epi16(index, _mm512_set1_epi16(static_cast<short>(4 * i))), all);
}

/// Sixteen integers as int8; v is 16 / kLanes registers.
SHOEHORN_INLINE void store_int8(int8_t* to, const I32* v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtsepi32_epi8((__m512i)v[0]));
}

/// kLanes integers as 16 bits, modulo 2^16.
SHOEHORN_INLINE void store_int16(uint16_t* to, I32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16((__m512i)v));
}

SHOEHORN_INLINE F32 load_f16(const uint16_t* from) {
  return (F32)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
SHOEHORN_INLINE F32 load_bf16(const uint16_t* from) {
  return (F32)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16);
}
/// Four times 16 bytes.
SHOEHORN_INLINE U8 join(const quant::Bytes* part) {
  const __m512i low = _mm512_castsi256_si512(_mm256_set_m128i((__m128i)part[1], (__m128i)part[0]));
  return (U8)_mm512_inserti64x4(low, _mm256_set_m128i((__m128i)part[3], (__m128i)part[2]), 1);
}

/// (a + b + 1) / 2
SHOEHORN_INLINE U8 average(U8 a, U8 b) { return (U8)_mm512_avg_epu8((__m512i)a, (__m512i)b); }

/// kLanes bytes as integers.
SHOEHORN_INLINE I32 widen(const uint8_t* from) { return (I32)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))); }
SHOEHORN_INLINE I32 widen(const int8_t* from) { return (I32)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))); }

SHOEHORN_INLINE void store_f16(uint16_t* to, F32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}

/// Lane i: the sum of register i.
SHOEHORN_INLINE F32 lane_sums(const F32 (&v)[16]) {
  __m512 a[8], b[4], c[2];
  // Each step adds halves of two registers side by side; the order of the steps leaves register i in lane i.
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    constexpr size_t k = i / 4 * 8 + i % 4;  // with k + 4: quarters of 128 bits
    const __m512 x = (__m512)v[k], y = (__m512)v[k + 4];
    a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
  });
  // a[i]: quarters [k, k, k + 4, k + 4]
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[i], a[4 + i], 0x88), _mm512_shuffle_f32x4(a[i], a[4 + i], 0xdd));
  });
  // b[i]: quarters [i, i + 4, i + 8, i + 12]
  unroll<2>([&](auto i) SHOEHORN_LAMBDA {
    c[i] = _mm512_add_ps(_mm512_unpacklo_ps(b[2 * i], b[2 * i + 1]), _mm512_unpackhi_ps(b[2 * i], b[2 * i + 1]));
  });
  // c[i]: lanes [2 i, 2 i + 1, 2 i, 2 i + 1] of each quarter
  const __m512 low = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(c[0]), _mm512_castps_pd(c[1])));
  const __m512 high = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(c[0]), _mm512_castps_pd(c[1])));
  return (F32)_mm512_add_ps(low, high);
}

/// v * 2^n for whole n in the range of normal floats
SHOEHORN_INLINE F32 times_power_of_two(F32 v, F32 n) { return (F32)_mm512_scalef_ps((__m512)v, (__m512)n); }
SHOEHORN_INLINE F32 round_to_whole(F32 v) { return (F32)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_NEAREST_INT); }

/// 16 x 16 units of 32 bits.
SHOEHORN_INLINE void transpose(I32 (&r)[16]) {
  __m512i t[16], u[16];
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    t[2 * i] = _mm512_unpacklo_epi32((__m512i)r[2 * i], (__m512i)r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32((__m512i)r[2 * i], (__m512i)r[2 * i + 1]);
  });
  // u[4 i + k]: column k of every 4 x 4 corner of the rows 4 i .. 4 i + 3
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    u[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    u[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  });
  unroll<4>([&](auto k) SHOEHORN_LAMBDA {
    const __m512i a = _mm512_shuffle_i32x4(u[k], u[4 + k], 0x88), b = _mm512_shuffle_i32x4(u[k], u[4 + k], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(u[8 + k], u[12 + k], 0x88), d = _mm512_shuffle_i32x4(u[8 + k], u[12 + k], 0xdd);
    r[k] = (I32)_mm512_shuffle_i32x4(a, c, 0x88);
    r[8 + k] = (I32)_mm512_shuffle_i32x4(a, c, 0xdd);
    r[4 + k] = (I32)_mm512_shuffle_i32x4(b, d, 0x88);
    r[12 + k] = (I32)_mm512_shuffle_i32x4(b, d, 0xdd);
  });
}

}  // namespace
}  // namespace shoehorn::kernels
