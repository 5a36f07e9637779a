// Blocks of every format to registers of codes (simd/vector.h, Codes). Formats whose codes are shifted carry the shift in the min.
// Layouts: quant/<format>.h.
#pragma once

#include "kernels/x86_avx2/vector.h"
#include "kernels/simd/codebooks.h"
#include "kernels/simd/scales.h"
#include "kernels/simd/ternary.h"
#include "quant/all_formats.h"

namespace shoehorn::kernels {
namespace {

SHOEHORN_INLINE __m256i bytes(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
SHOEHORN_INLINE __m256i load_bytes32(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

/// v << n, or v >> -n, within 16 bits: the caller masks the bits that it wants.
template <int n>
SHOEHORN_INLINE __m256i shifted(__m256i v) {
  if constexpr (n >= 0) {
    return _mm256_slli_epi16(v, n);
  } else {
    return _mm256_srli_epi16(v, -n);
  }
}

/// 16 bytes to floats, times a factor
template <bool kSigned>
SHOEHORN_INLINE void set_floats(F32 (&to)[2], __m128i v, float factor) {
  const __m128i high = _mm_unpackhi_epi64(v, v);
  to[0] = (F32)_mm256_cvtepi32_ps(kSigned ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v)) * factor;
  to[1] = (F32)_mm256_cvtepi32_ps(kSigned ? _mm256_cvtepi8_epi32(high) : _mm256_cvtepu8_epi32(high)) * factor;
}
/// Each of eight bytes twice: a scale of 32 weights as two of 16
SHOEHORN_INLINE __m128i doubled(uint64_t v) {
  const __m128i x = _mm_cvtsi64_si128(static_cast<long long>(v));
  return _mm_unpacklo_epi8(x, x);
}
SHOEHORN_INLINE void set_mins(Codes& c, float per_scale) {
  c.min[0] = c.scale[0] * per_scale;
  c.min[1] = c.scale[1] * per_scale;
}

SHOEHORN_INLINE void unpack(const quant::q4_k::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m256i packed = load_bytes32(b->qs + 32 * i);
    c.q[2 * i] = (U8)_mm256_and_si256(packed, bytes(15));
    c.q[2 * i + 1] = (U8)_mm256_and_si256(shifted<-4>(packed), bytes(15));
  });
  const KScales k = unpack_k_scales(b->scales);
  set_floats<false>(c.scale, doubled(k.scale), fp16_to_fp32(b->d));
  set_floats<false>(c.min, doubled(k.min), fp16_to_fp32(b->dmin));
}

SHOEHORN_INLINE void unpack(const quant::q5_k::Block* b, Codes& c) {
  const __m256i high = load_bytes32(b->qh);
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const __m256i packed = load_bytes32(b->qs + 32 * i);
    constexpr int kShift = 4 - 2 * static_cast<int>(i);
    c.q[2 * i] = (U8)_mm256_or_si256(_mm256_and_si256(packed, bytes(15)), _mm256_and_si256(shifted<kShift>(high), bytes(16)));
    c.q[2 * i + 1] =
        (U8)_mm256_or_si256(_mm256_and_si256(shifted<-4>(packed), bytes(15)), _mm256_and_si256(shifted<kShift - 1>(high), bytes(16)));
  });
  const KScales k = unpack_k_scales(b->scales);
  set_floats<false>(c.scale, doubled(k.scale), fp16_to_fp32(b->d));
  set_floats<false>(c.min, doubled(k.min), fp16_to_fp32(b->dmin));
}

SHOEHORN_INLINE void unpack(const quant::q6_k::Block* b, Codes& c) {
  unroll<2>([&](auto h) SHOEHORN_LAMBDA {
    const __m256i high = load_bytes32(b->qh + 32 * h);
    unroll<2>([&](auto i) SHOEHORN_LAMBDA {
      const __m256i low = load_bytes32(b->ql + 64 * h + 32 * i);
      constexpr int kShift = 4 - 2 * static_cast<int>(i);
      c.q[4 * h + i] = (U8)_mm256_or_si256(_mm256_and_si256(low, bytes(15)), _mm256_and_si256(shifted<kShift>(high), bytes(48)));
      c.q[4 * h + 2 + i] =
          (U8)_mm256_or_si256(_mm256_and_si256(shifted<-4>(low), bytes(15)), _mm256_and_si256(shifted<kShift - 4>(high), bytes(48)));
    });
  });
  set_floats<true>(c.scale, load<__m128i>(b->scales), fp16_to_fp32(b->d));
  set_mins(c, 32);
}

/// Two bits each: byte i of half h holds the codes 128 h + 32 k + i.
SHOEHORN_INLINE void unpack_pairs(const uint8_t* qs, Codes& c) {
  unroll<2>([&](auto h) SHOEHORN_LAMBDA {
    const __m256i packed = load_bytes32(qs + 32 * h);
    unroll<4>([&](auto k) SHOEHORN_LAMBDA {
      c.q[4 * h + k] = (U8)_mm256_and_si256(shifted<-2 * static_cast<int>(k)>(packed), bytes(3));
    });
  });
}

SHOEHORN_INLINE void unpack(const quant::q2_k::Block* b, Codes& c) {
  unpack_pairs(b->qs, c);
  const __m128i packed = load<__m128i>(b->scales), nibble = _mm_set1_epi8(15);
  set_floats<false>(c.scale, _mm_and_si128(packed, nibble), fp16_to_fp32(b->d));
  set_floats<false>(c.min, _mm_and_si128(_mm_srli_epi16(packed, 4), nibble), fp16_to_fp32(b->dmin));
}

SHOEHORN_INLINE void unpack(const quant::q3_k::Block* b, Codes& c) {
  unpack_pairs(b->qs, c);
  const __m256i high = load_bytes32(b->hmask);
  unroll<8>([&](auto s) SHOEHORN_LAMBDA {
    c.q[s] |= (U8)_mm256_and_si256(shifted<2 - static_cast<int>(s)>(high), bytes(4));
  });
  const Q3Scales s = unpack_q3_scales(b->scales);
  const __m128i scale = _mm_set_epi64x(static_cast<long long>(s.high), static_cast<long long>(s.low));
  set_floats<true>(c.scale, _mm_sub_epi8(scale, _mm_set1_epi8(32)), fp16_to_fp32(b->d));
  set_mins(c, 4);
}

SHOEHORN_INLINE void unpack(const quant::tq2_0::Block* b, Codes& c) {
  unpack_pairs(b->qs, c);
  c.scale[0] = c.scale[1] = splat(fp16_to_fp32(b->d));
  set_mins(c, 1);
}

/// Low nibbles, then high ones, of 16 bytes.
SHOEHORN_INLINE __m256i nibbles(const uint8_t* qs) {
  const __m128i packed = load<__m128i>(qs);
  return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed), bytes(15));
}

/// The levels of the 4-bit codebook, shifted to be unsigned where kSignedBias says so.
SHOEHORN_INLINE __m256i iq4_levels(__m256i codes) {
  const __m128i levels = _mm_add_epi8(load<__m128i>(quant::kIq4Levels), _mm_set1_epi8(static_cast<char>(kSignedBias)));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), codes);
}

SHOEHORN_INLINE void unpack(const quant::iq4_xs::Block* b, Codes& c) {
  unroll<8>([&](auto s) SHOEHORN_LAMBDA { c.q[s] = (U8)iq4_levels(nibbles(b->qs + 16 * s)); });
  const __m128i scale = _mm_sub_epi8(doubled(unpack_iq4_scales(b->scales_l, b->scales_h)), _mm_set1_epi8(32));
  set_floats<true>(c.scale, scale, fp16_to_fp32(b->d));
  set_mins(c, kSignedBias);
}

/// All ones in every byte i whose bit i is set.
SHOEHORN_INLINE __m256i bits_to_bytes(uint32_t bits) {
  const __m256i each = _mm256_set1_epi32(static_cast<int>(bits));
  const __m256i spread = _mm256_shuffle_epi8(each, _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0));
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  return _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
}

/// Four entries of a codebook: the weights from 32 i on.
template <class Block>
SHOEHORN_INLINE __m256i entries(const Block* b, size_t i) {
  const auto entry = [&](size_t k) SHOEHORN_LAMBDA { return static_cast<long long>(entry_of(b, 4 * i + k)); };
  return _mm256_set_epi64x(entry(3), entry(2), entry(1), entry(0));
}

/// Signed magnitudes, shifted to be unsigned where kSignedBias says so.
template <class Block>
SHOEHORN_INLINE void set_signed_entries(const Block* b, Codes& c) {
  unroll<4>([&](auto h) SHOEHORN_LAMBDA {
    const uint64_t signs = signs_of(b, h);
    unroll<2>([&](auto i) SHOEHORN_LAMBDA {
      const __m256i negative = bits_to_bytes(static_cast<uint32_t>(signs >> (32 * i)));
      const __m256i flipped = _mm256_xor_si256(entries(b, 2 * h + i), negative);
      c.q[2 * h + i] = (U8)_mm256_sub_epi8(flipped, _mm256_sub_epi8(negative, bytes(kSignedBias)));
    });
  });
}

/// Scales of d * (2 scale + 1), eight in either half.
SHOEHORN_INLINE void set_odd_scales(Codes& c, __m256i first, __m256i second, float d) {
  const auto odd = [&](__m256i v) SHOEHORN_LAMBDA {
    return (F32)_mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_add_epi32(v, v), _mm256_set1_epi32(1))) * d;
  };
  c.scale[0] = odd(first);
  c.scale[1] = odd(second);
  set_mins(c, kSignedBias);
}
SHOEHORN_INLINE void set_odd_scales(Codes& c, __m128i scale, float d) {
  set_odd_scales(c, _mm256_cvtepu8_epi32(scale), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(scale, scale)), d);
}
/// The nibbles of eight bytes, the low one first.
SHOEHORN_INLINE __m128i nibbles_in_order(uint64_t v) {
  const __m128i x = _mm_cvtsi64_si128(static_cast<long long>(v)), nibble = _mm_set1_epi8(15);
  return _mm_unpacklo_epi8(_mm_and_si128(x, nibble), _mm_and_si128(_mm_srli_epi16(x, 4), nibble));
}

SHOEHORN_INLINE void unpack(const quant::iq2_xxs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const auto scale = [&](size_t sub) SHOEHORN_LAMBDA {  // of the odd lanes
    return _mm256_shuffle_epi32(_mm256_srli_epi32(load_bytes32(b->sub + sub), 28), 0xf5);
  };
  set_odd_scales(c, scale(0), scale(4), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq2_xs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  set_odd_scales(c, nibbles_in_order(load<uint64_t>(b->scales)), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq2_s::Block* b, Codes& c) {
  set_signed_entries(b, c);
  set_odd_scales(c, nibbles_in_order(load<uint64_t>(b->scales)), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq3_xxs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const auto scale = [&](size_t sub) SHOEHORN_LAMBDA {
    const __m128i four = _mm_srli_epi32(load<__m128i>(b->signs_and_scale + sub), 28);
    return _mm256_shuffle_epi32(_mm256_cvtepu32_epi64(four), 0xa0);
  };
  set_odd_scales(c, scale(0), scale(4), fp16_to_fp32(b->d) * 0.25f);
}

SHOEHORN_INLINE void unpack(const quant::iq3_s::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const __m128i scale = nibbles_in_order(load<uint32_t>(b->scales));
  set_odd_scales(c, _mm_unpacklo_epi8(scale, scale), fp16_to_fp32(b->d));
}

/// Bytes of -1 where a bit of `down` is set for the 64 bits, 1 elsewhere, shifted as codes are.
SHOEHORN_INLINE __m256i deltas(uint32_t down) {
  const __m256i bit = _mm256_set_epi64x(8, 4, 2, 1), each = _mm256_set1_epi64x(static_cast<long long>(down));
  const __m256i is_down = _mm256_cmpeq_epi64(_mm256_and_si256(each, bit), bit);
  return _mm256_blendv_epi8(bytes(kSignedBias + 1), bytes(kSignedBias - 1), is_down);
}

SHOEHORN_INLINE void unpack(const quant::iq1_s::Block* b, Codes& c) {
  unroll<8>([&](auto s) SHOEHORN_LAMBDA {
    c.q[s] = (U8)_mm256_add_epi8(entries(b, s), bytes(kSignedBias + ((b->qh[s] & 0x8000) != 0 ? -1 : 1)));
  });
  const __m128i scale = _mm_and_si128(_mm_srli_epi16(load<__m128i>(b->qh), 12), _mm_set1_epi16(7));
  set_odd_scales(c, _mm_or_si128(scale, _mm_slli_epi16(scale, 8)), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq1_m::Block* b, Codes& c) {
  unroll<8>([&](auto s) SHOEHORN_LAMBDA {
    c.q[s] = (U8)_mm256_add_epi8(entries(b, s), deltas(_pext_u32(load<uint16_t>(b->qh + 2 * s), 0x8888u)));
  });
  // Word i / 4, from bit 3 (i % 4) up.
  const auto scale = [&](size_t first) SHOEHORN_LAMBDA {
    const int low = b->scales[first], high = b->scales[first + 1];
    const __m256i each = _mm256_set_epi32(high, high, high, high, low, low, low, low);
    return _mm256_and_si256(_mm256_srlv_epi32(each, _mm256_set_epi32(9, 6, 3, 0, 9, 6, 3, 0)), _mm256_set1_epi32(7));
  };
  set_odd_scales(c, scale(0), scale(2), fp16_to_fp32(quant::iq1_m::scale_of_scales(*b)) * 0.125f);
}

// Formats of 32 weights: eight blocks at a time.

/// The binary16 at offset kOffset of eight blocks, each twice, as floats.
template <size_t kOffset, class Block>
SHOEHORN_INLINE void set_halves(F32 (&to)[2], const Block* b) {
  // Put together in general registers: a load of what was just stored in parts would stall.
  const auto four = [&](size_t first) SHOEHORN_LAMBDA {
    uint64_t h = 0;
    unroll<4>([&](auto i) SHOEHORN_LAMBDA {
      h |= static_cast<uint64_t>(load<uint16_t>(reinterpret_cast<const std::byte*>(b + first + i) + kOffset)) << (16 * i);
    });
    return static_cast<long long>(h);
  };
  const __m256 floats = _mm256_cvtph_ps(_mm_set_epi64x(four(4), four(0)));
  to[0] = (F32)_mm256_permutevar8x32_ps(floats, _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0));
  to[1] = (F32)_mm256_permutevar8x32_ps(floats, _mm256_set_epi32(7, 7, 6, 6, 5, 5, 4, 4));
}

/// 16 in every byte i whose bit i is set.
SHOEHORN_INLINE __m256i fifth_bits(const uint8_t qh[4]) { return _mm256_and_si256(bits_to_bytes(load<uint32_t>(qh)), bytes(16)); }

SHOEHORN_INLINE void unpack(const quant::q4_0::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)nibbles(b[i].qs); });
  set_halves<offsetof(quant::q4_0::Block, d)>(c.scale, b);
  set_mins(c, 8);
}

SHOEHORN_INLINE void unpack(const quant::q4_1::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)nibbles(b[i].qs); });
  set_halves<offsetof(quant::q4_1::Block, d)>(c.scale, b);
  set_halves<offsetof(quant::q4_1::Block, m)>(c.min, b);
  c.min[0] = -c.min[0];
  c.min[1] = -c.min[1];
}

SHOEHORN_INLINE void unpack(const quant::q5_0::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)_mm256_or_si256(nibbles(b[i].qs), fifth_bits(b[i].qh)); });
  set_halves<offsetof(quant::q5_0::Block, d)>(c.scale, b);
  set_mins(c, 16);
}

SHOEHORN_INLINE void unpack(const quant::q5_1::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)_mm256_or_si256(nibbles(b[i].qs), fifth_bits(b[i].qh)); });
  set_halves<offsetof(quant::q5_1::Block, d)>(c.scale, b);
  set_halves<offsetof(quant::q5_1::Block, m)>(c.min, b);
  c.min[0] = -c.min[0];
  c.min[1] = -c.min[1];
}

SHOEHORN_INLINE void unpack(const quant::q8_0::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)_mm256_add_epi8(load_bytes32(b[i].qs), bytes(kSignedBias)); });
  set_halves<offsetof(quant::q8_0::Block, d)>(c.scale, b);
  set_mins(c, kSignedBias);
}

/// Register i of codes of a row of Q8_0, biased where kSignedBias says so, and the scale of each lane.
SHOEHORN_INLINE U8 load_q8_0(const quant::q8_0::Block* b, size_t i, F32& scale) {
  scale = splat(fp16_to_fp32(b[i].d));
  return (U8)_mm256_add_epi8(load_bytes32(b[i].qs), bytes(kSignedBias));
}

SHOEHORN_INLINE void unpack(const quant::mxfp4::Block* b, Codes& c) {
  const __m128i levels = _mm_add_epi8(load<__m128i>(quant::mxfp4::kLevels), _mm_set1_epi8(static_cast<char>(kSignedBias)));
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    c.q[i] = (U8)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), nibbles(b[i].qs));
  });
  const __m128i bits = _mm_subs_epu8(doubled(exponents(b)), _mm_set1_epi8(1));
  c.scale[0] = (F32)_mm256_slli_epi32(_mm256_cvtepu8_epi32(bits), 23);
  c.scale[1] = (F32)_mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bits, bits)), 23);
  set_mins(c, kSignedBias);
}

SHOEHORN_INLINE void unpack(const quant::iq4_nl::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = (U8)iq4_levels(nibbles(b[i].qs)); });
  set_halves<offsetof(quant::iq4_nl::Block, d)>(c.scale, b);
  set_mins(c, kSignedBias);
}

}  // namespace
}  // namespace shoehorn::kernels
