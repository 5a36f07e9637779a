// Blocks of every format to registers of unsigned codes (simd/vector.h, Codes). Formats whose codes are signed or shifted carry
// the shift in the min. Layouts: quant/<format>.h.
#pragma once

#include "kernels/x86_avx512/vector.h"
#include "kernels/simd/codebooks.h"
#include "kernels/simd/scales.h"
#include "kernels/simd/ternary.h"
#include "quant/all_formats.h"

namespace shoehorn::kernels {
namespace {

SHOEHORN_INLINE __m512i per_half(int64_t low, int64_t high) { return _mm512_set_epi64(high, high, high, high, low, low, low, low); }
SHOEHORN_INLINE __m512i per_quarter(int64_t even, int64_t odd) { return _mm512_set_epi64(odd, odd, even, even, odd, odd, even, even); }
SHOEHORN_INLINE __m512i twice(const void* from) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
}
SHOEHORN_INLINE __m512i bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }

/// (a & b) | c
SHOEHORN_INLINE __m512i and_or(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi64(a, b, c, 0xea); }

/// 16 bytes to floats
SHOEHORN_INLINE __m512 unsigned_floats(__m128i v) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(v)); }
SHOEHORN_INLINE __m512 signed_floats(__m128i v) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v)); }
/// Each of eight bytes twice: a scale of 32 weights as two of 16
SHOEHORN_INLINE __m128i doubled(uint64_t v) {
  const __m128i x = _mm_cvtsi64_si128(static_cast<long long>(v));
  return _mm_unpacklo_epi8(x, x);
}

SHOEHORN_INLINE void set(Codes& c, __m512 scale, __m512 min) {
  c.scale[0] = (F32)scale;
  c.min[0] = (F32)min;
}

SHOEHORN_INLINE void unpack(const quant::q4_k::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    c.q[i] = (U8)_mm512_and_si512(_mm512_srlv_epi64(twice(b->qs + 32 * i), per_half(0, 4)), bytes(15));
  });
  const KScales k = unpack_k_scales(b->scales);
  set(c, unsigned_floats(doubled(k.scale)) * fp16_to_fp32(b->d), unsigned_floats(doubled(k.min)) * fp16_to_fp32(b->dmin));
}

SHOEHORN_INLINE void unpack(const quant::q5_k::Block* b, Codes& c) {
  const __m512i high = twice(b->qh);
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m512i low = _mm512_and_si512(_mm512_srlv_epi64(twice(b->qs + 32 * i), per_half(0, 4)), bytes(15));
    const __m512i fifth = _mm512_rolv_epi64(high, per_half((64 + 4 - 2 * i) % 64, (64 + 3 - 2 * i) % 64));
    c.q[i] = (U8)and_or(fifth, bytes(16), low);
  });
  const KScales k = unpack_k_scales(b->scales);
  set(c, unsigned_floats(doubled(k.scale)) * fp16_to_fp32(b->d), unsigned_floats(doubled(k.min)) * fp16_to_fp32(b->dmin));
}

SHOEHORN_INLINE void unpack(const quant::q6_k::Block* b, Codes& c) {
  unroll<2>([&](auto h) SHOEHORN_LAMBDA {
    const __m512i low = _mm512_loadu_si512(b->ql + 64 * h), high = twice(b->qh + 32 * h);
    c.q[2 * h] = (U8)and_or(_mm512_rolv_epi64(high, per_half(4, 2)), bytes(48), _mm512_and_si512(low, bytes(15)));
    c.q[2 * h + 1] = (U8)and_or(_mm512_rolv_epi64(high, per_half(0, 62)), bytes(48),
                                _mm512_and_si512(_mm512_srli_epi16(low, 4), bytes(15)));
  });
  const __m512 scale =
      signed_floats(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b->scales))) * fp16_to_fp32(b->d);
  set(c, scale, scale * 32.0f);
}

SHOEHORN_INLINE void unpack(const quant::q2_k::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m512i shifted = _mm512_srlv_epi64(twice(b->qs + 32 * (i / 2)), per_half(4 * (i % 2), 4 * (i % 2) + 2));
    c.q[i] = (U8)_mm512_and_si512(shifted, bytes(3));
  });
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b->scales)), nibble = _mm_set1_epi8(15);
  set(c, unsigned_floats(_mm_and_si128(packed, nibble)) * fp16_to_fp32(b->d),
      unsigned_floats(_mm_and_si128(_mm_srli_epi16(packed, 4), nibble)) * fp16_to_fp32(b->dmin));
}

SHOEHORN_INLINE void unpack(const quant::q3_k::Block* b, Codes& c) {
  const __m512i high = twice(b->hmask);
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m512i shifted = _mm512_srlv_epi64(twice(b->qs + 32 * (i / 2)), per_half(4 * (i % 2), 4 * (i % 2) + 2));
    const __m512i third = _mm512_rolv_epi64(high, per_half((64 + 2 - 2 * i) % 64, (64 + 1 - 2 * i) % 64));
    c.q[i] = (U8)and_or(third, bytes(4), _mm512_and_si512(shifted, bytes(3)));
  });
  const Q3Scales s = unpack_q3_scales(b->scales);
  const __m128i scale = _mm_sub_epi8(_mm_set_epi64x(static_cast<long long>(s.high), static_cast<long long>(s.low)), _mm_set1_epi8(32));
  const __m512 scales = signed_floats(scale) * fp16_to_fp32(b->d);
  set(c, scales, scales * 4.0f);
}

SHOEHORN_INLINE void unpack(const quant::tq2_0::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m512i shifted = _mm512_srlv_epi64(twice(b->qs + 32 * (i / 2)), per_half(4 * (i % 2), 4 * (i % 2) + 2));
    c.q[i] = (U8)_mm512_and_si512(shifted, bytes(3));
  });
  const __m512 d = _mm512_set1_ps(fp16_to_fp32(b->d));
  set(c, d, d);
}

/// The levels of the 4-bit codebook, shifted to be unsigned.
SHOEHORN_INLINE __m512i iq4_levels(__m512i codes) {
  const __m128i levels = _mm_xor_si128(load<__m128i>(quant::kIq4Levels), _mm_set1_epi8(-128));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(levels), codes);
}

SHOEHORN_INLINE void unpack(const quant::iq4_xs::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m512i both = _mm512_permutexvar_epi64(_mm512_set_epi64(3, 2, 3, 2, 1, 0, 1, 0),
                                                  _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b->qs + 32 * i))));
    c.q[i] = (U8)iq4_levels(_mm512_and_si512(_mm512_srlv_epi64(both, per_quarter(0, 4)), bytes(15)));
  });
  const __m128i scale = _mm_sub_epi8(doubled(unpack_iq4_scales(b->scales_l, b->scales_h)), _mm_set1_epi8(32));
  const __m512 scales = signed_floats(scale) * fp16_to_fp32(b->d);
  set(c, scales, scales * 128.0f);
}

/// Eight entries of a codebook: the weights from 64 i on.
template <class Block>
SHOEHORN_INLINE __m512i entries(const Block* b, size_t i) {
  const auto entry = [&](size_t k) SHOEHORN_LAMBDA { return static_cast<long long>(entry_of(b, 8 * i + k)); };
  return _mm512_set_epi64(entry(7), entry(6), entry(5), entry(4), entry(3), entry(2), entry(1), entry(0));
}

/// Signed magnitudes, shifted to be unsigned.
template <class Block>
SHOEHORN_INLINE void set_signed_entries(const Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m512i magnitude = entries(b, i), middle = bytes(128);
    c.q[i] = (U8)_mm512_mask_sub_epi8(_mm512_add_epi8(middle, magnitude), signs_of(b, i), middle, magnitude);
  });
}

/// Scales of d * (2 scale + 1)
SHOEHORN_INLINE void set_odd_scales(Codes& c, __m512i scale, float d) {
  const __m512 scales = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_add_epi32(scale, scale), _mm512_set1_epi32(1))) * d;
  set(c, scales, scales * 128.0f);
}
/// The nibbles of eight bytes, the low one first.
SHOEHORN_INLINE __m128i nibbles_in_order(uint64_t v) {
  const __m128i x = _mm_cvtsi64_si128(static_cast<long long>(v)), nibble = _mm_set1_epi8(15);
  return _mm_unpacklo_epi8(_mm_and_si128(x, nibble), _mm_and_si128(_mm_srli_epi16(x, 4), nibble));
}

SHOEHORN_INLINE void unpack(const quant::iq2_xxs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const __m512i scale = _mm512_srli_epi32(_mm512_loadu_si512(b->sub), 28);  // of the odd lanes
  set_odd_scales(c, _mm512_shuffle_epi32(scale, static_cast<_MM_PERM_ENUM>(0xf5)), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq2_xs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  set_odd_scales(c, _mm512_cvtepu8_epi32(nibbles_in_order(load<uint64_t>(b->scales))), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq2_s::Block* b, Codes& c) {
  set_signed_entries(b, c);
  set_odd_scales(c, _mm512_cvtepu8_epi32(nibbles_in_order(load<uint64_t>(b->scales))), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq3_xxs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const __m512i scale = _mm512_cvtepu32_epi64(_mm256_srli_epi32(load<__m256i>(b->signs_and_scale), 28));
  set_odd_scales(c, _mm512_shuffle_epi32(scale, static_cast<_MM_PERM_ENUM>(0xa0)), fp16_to_fp32(b->d) * 0.25f);
}

SHOEHORN_INLINE void unpack(const quant::iq3_s::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const __m128i scale = nibbles_in_order(load<uint32_t>(b->scales));
  set_odd_scales(c, _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(scale, scale)), fp16_to_fp32(b->d));
}

/// 128 + delta per 64 bits, less where a bit of `down` is set.
SHOEHORN_INLINE __m512i middles(uint8_t down) { return _mm512_mask_blend_epi64(down, bytes(129), bytes(127)); }

SHOEHORN_INLINE void unpack(const quant::iq1_s::Block* b, Codes& c) {
  // Bits 15 of the words, four times each.
  const __m128i qh = load<__m128i>(b->qh);
  const uint32_t down = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cvtepi16_epi32(qh)));
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const uint32_t two = down >> (2 * i);
    c.q[i] = (U8)_mm512_add_epi8(entries(b, i), middles(static_cast<uint8_t>((two & 1) * 15 + (two & 2) * 120)));
  });
  const __m512i scale = _mm512_and_si512(_mm512_cvtepu32_epi64(_mm256_srli_epi32(_mm256_cvtepu16_epi32(qh), 12)), _mm512_set1_epi64(7));
  set_odd_scales(c, _mm512_shuffle_epi32(scale, static_cast<_MM_PERM_ENUM>(0xa0)), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq1_m::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const auto down = static_cast<uint8_t>(_pext_u32(load<uint32_t>(b->qh + 4 * i), 0x88888888u));
    c.q[i] = (U8)_mm512_add_epi8(entries(b, i), middles(down));
  });
  // Word i / 4, from bit 3 (i % 4) up.
  const __m512i words = _mm512_castsi256_si512(_mm256_cvtepu16_epi32(_mm_cvtsi64_si128(load<int64_t>(b->scales))));
  const __m512i each = _mm512_permutexvar_epi32(_mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0), words);
  const __m512i shift = _mm512_set_epi32(9, 6, 3, 0, 9, 6, 3, 0, 9, 6, 3, 0, 9, 6, 3, 0);
  set_odd_scales(c, _mm512_and_si512(_mm512_srlv_epi32(each, shift), _mm512_set1_epi32(7)),
                 fp16_to_fp32(quant::iq1_m::scale_of_scales(*b)) * 0.125f);
}

// Formats of 32 weights: eight blocks at a time.

/// Indices of 16-bit words: word kFirst + kStride * i - kBase of block i, each twice.
template <size_t kFirst, size_t kStride, size_t kBase>
struct WordIndex {
  constexpr WordIndex() {
    for (size_t i = 0; i < 16; ++i) word[i] = static_cast<uint16_t>((kFirst + kStride * (i / 2) - kBase) % 64);
  }
  alignas(64) uint16_t word[32] = {};
};

/// The binary16 at offset kOffset of eight blocks, each twice, as floats: picked out of the first 128 bytes, and out of later ones
/// for the blocks that lie there.
template <size_t kOffset, class Block>
SHOEHORN_INLINE __m512 halves(const Block* b) {
  constexpr size_t kStride = sizeof(Block) / 2, kFirst = kOffset / 2, kAll = 8 * sizeof(Block);
  const auto* bytes = reinterpret_cast<const std::byte*>(b);
  const auto pick = [&](size_t from, const uint16_t* index) SHOEHORN_LAMBDA {
    return _mm512_castsi512_si256(_mm512_permutex2var_epi16(_mm512_loadu_si512(bytes + from), _mm512_load_si512(index),
                                                            _mm512_loadu_si512(bytes + from + 64)));
  };
  static constexpr WordIndex<kFirst, kStride, 0> kEarly;
  __m256i words = pick(0, kEarly.word);
  if constexpr (kFirst + 7 * kStride >= 64) {
    constexpr size_t kFrom = kAll - 128 < 128 ? kAll - 128 : 128;
    constexpr size_t kInFirst = (64 - kFirst + kStride - 1) / kStride;  // blocks whose word is in the first 128 bytes
    static constexpr WordIndex<kFirst, kStride, kFrom / 2> kLate;
    words = _mm256_mask_mov_epi16(words, static_cast<__mmask16>(0xffff << (2 * kInFirst)), pick(kFrom, kLate.word));
  }
  return _mm512_cvtph_ps(words);
}

/// Nibbles of the blocks 2 i and 2 i + 1: low, high, low, high.
template <class Block>
SHOEHORN_INLINE __m512i nibbles(const Block* b, size_t i) {
  const __m512i first = _mm512_broadcast_i32x4(load<__m128i>(b[2 * i].qs));
  const __m512i both = _mm512_mask_broadcast_i32x4(first, 0xff00, load<__m128i>(b[2 * i + 1].qs));
  return _mm512_and_si512(_mm512_srlv_epi64(both, per_quarter(0, 4)), bytes(15));
}

/// 16 in every byte whose bit in the fifth bits of the blocks 2 i and 2 i + 1 is set.
template <class Block>
SHOEHORN_INLINE __m512i fifth_bits(const Block* b, size_t i) {
  const uint64_t bits = load<uint32_t>(b[2 * i].qh) | static_cast<uint64_t>(load<uint32_t>(b[2 * i + 1].qh)) << 32;
  return _mm512_maskz_mov_epi8(static_cast<__mmask64>(bits), bytes(16));
}

SHOEHORN_INLINE void unpack(const quant::q4_0::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)nibbles(b, i); });
  const __m512 d = halves<offsetof(quant::q4_0::Block, d)>(b);
  set(c, d, d * 8.0f);
}

SHOEHORN_INLINE void unpack(const quant::q4_1::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)nibbles(b, i); });
  set(c, halves<offsetof(quant::q4_1::Block, d)>(b), -halves<offsetof(quant::q4_1::Block, m)>(b));
}

SHOEHORN_INLINE void unpack(const quant::q5_0::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)_mm512_or_si512(nibbles(b, i), fifth_bits(b, i)); });
  const __m512 d = halves<offsetof(quant::q5_0::Block, d)>(b);
  set(c, d, d * 16.0f);
}

SHOEHORN_INLINE void unpack(const quant::q5_1::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)_mm512_or_si512(nibbles(b, i), fifth_bits(b, i)); });
  set(c, halves<offsetof(quant::q5_1::Block, d)>(b), -halves<offsetof(quant::q5_1::Block, m)>(b));
}

SHOEHORN_INLINE void unpack(const quant::q8_0::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(load<__m256i>(b[2 * i].qs)), load<__m256i>(b[2 * i + 1].qs), 1);
    c.q[i] = (U8)_mm512_xor_si512(both, bytes(128));
  });
  const __m512 d = halves<offsetof(quant::q8_0::Block, d)>(b);
  set(c, d, d * 128.0f);
}

/// Register i of codes of a row of Q8_0, biased, and the scale of each lane.
SHOEHORN_INLINE U8 load_q8_0(const quant::q8_0::Block* b, size_t i, F32& scale) {
  const auto& first = b[2 * i];
  const auto& second = b[2 * i + 1];
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(load<__m256i>(first.qs)), load<__m256i>(second.qs), 1);
  const __m128i d = _mm_cvtsi32_si128(static_cast<int>(first.d | static_cast<uint32_t>(second.d) << 16));
  scale = (F32)_mm512_permutexvar_ps(_mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0),
                                     _mm512_castps128_ps512(_mm_cvtph_ps(d)));
  return (U8)_mm512_xor_si512(both, bytes(128));
}

SHOEHORN_INLINE void unpack(const quant::mxfp4::Block* b, Codes& c) {
  const __m512i levels =
      _mm512_broadcast_i32x4(_mm_xor_si128(load<__m128i>(quant::mxfp4::kLevels), _mm_set1_epi8(-128)));
  unroll<4>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)_mm512_shuffle_epi8(levels, nibbles(b, i)); });
  const __m512i e = _mm512_cvtepu8_epi32(_mm_subs_epu8(doubled(exponents(b)), _mm_set1_epi8(1)));
  const __m512 d = _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
  set(c, d, d * 128.0f);
}

SHOEHORN_INLINE void unpack(const quant::iq4_nl::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)iq4_levels(nibbles(b, i)); });
  const __m512 d = halves<offsetof(quant::iq4_nl::Block, d)>(b);
  set(c, d, d * 128.0f);
}

}  // namespace
}  // namespace shoehorn::kernels
