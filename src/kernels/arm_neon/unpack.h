// Blocks of every format to registers of signed codes (simd/vector.h, Codes). Formats whose codes are shifted carry the shift in
// the min. Where bits of two bytes make a code, one insert puts them together (sli, sri: shift and keep the bits of the target that
// nothing is shifted to), and the bits above are its sign. Layouts: quant/<format>.h.
#pragma once

#include "kernels/arm_neon/products.h"
#include "kernels/simd/codebooks.h"
#include "kernels/simd/scales.h"
#include "quant/all_formats.h"

namespace shoehorn::kernels {
namespace {

/// What decode must know of a format: the weights that share a scale, the largest magnitude of a code, whether there are mins, and
/// whether steps have a factor (that of mins may also be of superblocks, or the same for all).
template <size_t kGroup, int kMost, bool kHasMins, bool kSuperblock = false>
struct Format {
  static constexpr size_t kScaleGroup = kGroup;
  static constexpr int kMostCode = kMost;
  static constexpr bool kMins = kHasMins;
  static constexpr bool kFactors = kSuperblock;
};
template <class Block> struct FormatOf : Format<16, 128, true> {};  // what quant's plain unpack leaves
template <> struct FormatOf<quant::q4_0::Block> : Format<32, 15, true> {};
template <> struct FormatOf<quant::q4_1::Block> : Format<32, 15, true> {};
template <> struct FormatOf<quant::q5_0::Block> : Format<32, 16, false> {};
template <> struct FormatOf<quant::q5_1::Block> : Format<32, 16, true> {};
template <> struct FormatOf<quant::q8_0::Block> : Format<32, 128, false> {};
template <> struct FormatOf<quant::iq4_nl::Block> : Format<32, 127, false> {};
template <> struct FormatOf<quant::q2_k::Block> : Format<16, 3, true, true> {};
template <> struct FormatOf<quant::q3_k::Block> : Format<16, 4, false, true> {};
template <> struct FormatOf<quant::q4_k::Block> : Format<32, 15, true, true> {};
template <> struct FormatOf<quant::q5_k::Block> : Format<32, 16, true, true> {};
template <> struct FormatOf<quant::q6_k::Block> : Format<16, 63, true, true> {};
template <> struct FormatOf<quant::iq4_xs::Block> : Format<32, 127, false, true> {};
template <> struct FormatOf<quant::iq3_s::Block> : Format<32, 15, false, true> {};
template <> struct FormatOf<quant::iq3_xxs::Block> : Format<32, 62, false, true> {};
template <> struct FormatOf<quant::iq2_s::Block> : Format<16, 43, false, true> {};
template <> struct FormatOf<quant::iq2_xs::Block> : Format<16, 43, false, true> {};
template <> struct FormatOf<quant::iq2_xxs::Block> : Format<32, 43, false, true> {};
template <> struct FormatOf<quant::iq1_m::Block> : Format<16, 9, false, true> {};
template <> struct FormatOf<quant::iq1_s::Block> : Format<32, 9, false, true> {};
template <> struct FormatOf<quant::mxfp4::Block> : Format<32, 12, false> {};

SHOEHORN_INLINE uint8x16_t bytes(int value) { return vdupq_n_u8(static_cast<uint8_t>(value)); }
SHOEHORN_INLINE uint8x16_t low_nibbles(uint8x16_t v) { return vandq_u8(v, bytes(15)); }
SHOEHORN_INLINE uint8x16_t high_nibbles(uint8x16_t v) { return vshrq_n_u8(v, 4); }
/// All ones where v has one of the bits.
SHOEHORN_INLINE uint8x16_t any_of(uint8x16_t v, uint8x16_t bits) { return vtstq_u8(v, bits); }

/// v >> n
template <size_t n>
SHOEHORN_INLINE uint8x16_t right(uint8x16_t v) {
  if constexpr (n == 0) {
    return v;
  } else {
    return vshrq_n_u8(v, n);
  }
}

/// Each lane of the low (kHalf 0) or high half of v twice.
template <size_t kHalf>
SHOEHORN_INLINE F32 twice(F32 v) {
  return kHalf == 0 ? (F32)vzip1q_f32((float32x4_t)v, (float32x4_t)v) : (F32)vzip2q_f32((float32x4_t)v, (float32x4_t)v);
}
/// Scales (or mins) per 32 weights, or per 16: as decode reads them, and as every other kernel does.
SHOEHORN_INLINE void set_per_32(F32 (&step)[4], float& step_factor, F32 (&all)[4], F32 first, F32 second, float factor) {
  step[0] = first;
  step[1] = second;
  step_factor = factor;
  all[0] = twice<0>(first * factor);
  all[1] = twice<1>(first * factor);
  all[2] = twice<0>(second * factor);
  all[3] = twice<1>(second * factor);
}
SHOEHORN_INLINE void set_per_16(F32 (&step)[4], float& step_factor, F32 (&all)[4], const F32 (&values)[4], float factor) {
  step_factor = factor;
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    step[i] = values[i];
    all[i] = values[i] * factor;
  });
}
SHOEHORN_INLINE void set_scales_of_32(Codes& c, F32 first, F32 second, float factor) {
  set_per_32(c.step, c.step_factor, c.scale, first, second, factor);
}
SHOEHORN_INLINE void set_mins_of_32(Codes& c, F32 first, F32 second, float factor) {
  set_per_32(c.offset, c.offset_factor, c.min, first, second, factor);
}
SHOEHORN_INLINE void set_no_mins(Codes& c) { set_mins_of_32(c, F32{}, F32{}, 1); }

SHOEHORN_INLINE F32 low_floats(uint16x8_t v) { return (F32)vcvtq_f32_u32(vmovl_u16(vget_low_u16(v))); }
SHOEHORN_INLINE F32 high_floats(uint16x8_t v) { return (F32)vcvtq_f32_u32(vmovl_high_u16(v)); }
SHOEHORN_INLINE F32 low_floats(int16x8_t v) { return (F32)vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))); }
SHOEHORN_INLINE F32 high_floats(int16x8_t v) { return (F32)vcvtq_f32_s32(vmovl_high_s16(v)); }

/// The scales of Q4_K and Q5_K, whose codes are above those of the format by kShift.
template <int kShift>
SHOEHORN_INLINE void unpack_k(const uint8_t (&scales)[12], uint16_t d, uint16_t dmin, Codes& c) {
  const KScales k = unpack_k_scales(scales);
  const uint16x8_t scale = vmovl_u8(vcreate_u8(k.scale)), min = vmovl_u8(vcreate_u8(k.min));
  set_scales_of_32(c, low_floats(scale), high_floats(scale), fp16_to_fp32(d));
  if constexpr (kShift == 0) {
    set_mins_of_32(c, low_floats(min), high_floats(min), fp16_to_fp32(dmin));
  } else {
    const F32 per_min = splat(fp16_to_fp32(dmin)), per_scale = splat(kShift * fp16_to_fp32(d));
    set_mins_of_32(c, multiply_add(c.step[0], per_scale, low_floats(min) * per_min),
                   multiply_add(c.step[1], per_scale, high_floats(min) * per_min), 1);
  }
}

SHOEHORN_INLINE void unpack(const quant::q4_k::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b->qs + 16 * i);
    c.q[i / 2 * 4 + i % 2] = (U8)low_nibbles(packed);
    c.q[i / 2 * 4 + 2 + i % 2] = (U8)high_nibbles(packed);
  });
  unpack_k<0>(b->scales, b->d, b->dmin, c);
}

SHOEHORN_INLINE void unpack(const quant::q5_k::Block* b, Codes& c) {
  // A code of five bits without its high one is negative: code - 16.
  const uint8x16_t clear[2] = {vmvnq_u8(vld1q_u8(b->qh)), vmvnq_u8(vld1q_u8(b->qh + 16))};
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b->qs + 16 * i);
    constexpr int kBit = 1 << (i / 2 * 2);
    c.q[i / 2 * 4 + i % 2] = (U8)vsliq_n_u8(packed, any_of(clear[i % 2], bytes(kBit)), 4);
    c.q[i / 2 * 4 + 2 + i % 2] = (U8)vsriq_n_u8(any_of(clear[i % 2], bytes(2 * kBit)), packed, 4);
  });
  unpack_k<-16>(b->scales, b->d, b->dmin, c);
}

SHOEHORN_INLINE void set_signed_scales(int8x16_t v, float d, Codes& c) {
  const int16x8_t first = vmovl_s8(vget_low_s8(v)), second = vmovl_high_s8(v);
  set_per_16(c.step, c.step_factor, c.scale, {low_floats(first), high_floats(first), low_floats(second), high_floats(second)}, d);
}
SHOEHORN_INLINE void set_unsigned(uint8x16_t v, float d, F32 (&step)[4], float& factor, F32 (&all)[4]) {
  const uint16x8_t first = vmovl_u8(vget_low_u8(v)), second = vmovl_high_u8(v);
  set_per_16(step, factor, all, {low_floats(first), high_floats(first), low_floats(second), high_floats(second)}, d);
}

SHOEHORN_INLINE void unpack(const quant::q6_k::Block* b, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    constexpr size_t kHalf = i / 2, kPart = i % 2;
    const uint8x16_t high = vld1q_u8(b->qh + 32 * kHalf + 16 * kPart), shifted = right<2>(high);
    const uint8x16_t first = vld1q_u8(b->ql + 64 * kHalf + 16 * kPart), second = vld1q_u8(b->ql + 64 * kHalf + 32 + 16 * kPart);
    U8* q = c.q + 8 * kHalf + kPart;
    q[0] = (U8)vandq_u8(vsliq_n_u8(first, high, 4), bytes(63));
    q[2] = (U8)vandq_u8(vsliq_n_u8(second, shifted, 4), bytes(63));
    q[4] = (U8)vandq_u8(vsriq_n_u8(high, first, 4), bytes(63));
    q[6] = (U8)vsriq_n_u8(shifted, second, 4);
  });
  set_signed_scales(vld1q_s8(b->scales), fp16_to_fp32(b->d), c);
  set_per_16(c.offset, c.offset_factor, c.min, c.step, 32 * c.step_factor);
}

/// Two bits each: byte i of half h holds the codes 128 h + 32 k + i.
SHOEHORN_INLINE void unpack_pairs(const uint8_t* qs, Codes& c) {
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(qs + 16 * i);
    U8* q = c.q + 8 * (i / 2) + i % 2;
    q[0] = (U8)vandq_u8(packed, bytes(3));
    q[2] = (U8)vandq_u8(right<2>(packed), bytes(3));
    q[4] = (U8)vandq_u8(right<4>(packed), bytes(3));
    q[6] = (U8)right<6>(packed);
  });
}

SHOEHORN_INLINE void unpack(const quant::q2_k::Block* b, Codes& c) {
  unpack_pairs(b->qs, c);
  const uint8x16_t packed = vld1q_u8(b->scales);
  set_unsigned(low_nibbles(packed), fp16_to_fp32(b->d), c.step, c.step_factor, c.scale);
  set_unsigned(high_nibbles(packed), fp16_to_fp32(b->dmin), c.offset, c.offset_factor, c.min);
}

SHOEHORN_INLINE void unpack(const quant::q3_k::Block* b, Codes& c) {
  // A code of three bits without its high one is negative: code - 4.
  const uint8x16_t clear[2] = {vmvnq_u8(vld1q_u8(b->hmask)), vmvnq_u8(vld1q_u8(b->hmask + 16))};
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b->qs + 16 * i);
    U8* q = c.q + 8 * (i / 2) + i % 2;
    const auto sign = [&](auto k) SHOEHORN_LAMBDA { return any_of(clear[i % 2], bytes(1 << (4 * (i / 2) + k))); };
    unroll<3>([&](auto k) SHOEHORN_LAMBDA { q[2 * k] = (U8)vsliq_n_u8(right<2 * k>(packed), sign(k), 2); });
    q[6] = (U8)vsriq_n_u8(sign(std::integral_constant<size_t, 3>()), packed, 6);
  });
  const Q3Scales s = unpack_q3_scales(b->scales);
  const uint8x16_t scale = vcombine_u8(vcreate_u8(s.low), vcreate_u8(s.high));
  set_signed_scales(vsubq_s8((int8x16_t)scale, vdupq_n_s8(32)), fp16_to_fp32(b->d), c);
  set_no_mins(c);
}

/// w = d * (code - 1)
SHOEHORN_INLINE void set_ternary_scales(uint16_t d, Codes& c) {
  unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA { c.scale[i] = c.min[i] = splat(fp16_to_fp32(d)); });
}

SHOEHORN_INLINE void unpack(const quant::tq2_0::Block* b, Codes& c) {
  unpack_pairs(b->qs, c);
  set_ternary_scales(b->d, c);
}

/// The top trits of fractions, 3 fraction / 256: half of 1.5 fraction without overflow, then its top two bits.
SHOEHORN_INLINE U8 top_trits(uint8x16_t fraction) { return (U8)right<6>(vhaddq_u8(fraction, right<1>(fraction))); }

SHOEHORN_INLINE void unpack(const quant::tq1_0::Block* b, Codes& c) {
  unroll<3>([&](auto i) SHOEHORN_LAMBDA {
    uint8x16_t fraction = vld1q_u8(b->qs + 16 * i);
    U8* q = i < 2 ? c.q + i : c.q + 10;
    unroll<5>([&](auto k) SHOEHORN_LAMBDA {
      q[(i < 2 ? 2 : 1) * k] = top_trits(fraction);
      fraction = vaddq_u8(fraction, vaddq_u8(fraction, fraction));
    });
  });
  const uint8x16_t powers = (uint8x16_t)(uint32x4_t){0x01010101, 0x03030303, 0x09090909, 0x1b1b1b1b};
  c.q[15] = top_trits(vmulq_u8((uint8x16_t)vdupq_n_u32(load<uint32_t>(b->qh)), powers));
  set_ternary_scales(b->d, c);
}

SHOEHORN_INLINE U8 iq4_levels(uint8x16_t codes) { return (U8)vqtbl1q_s8(vld1q_s8(quant::kIq4Levels), codes); }

SHOEHORN_INLINE void unpack(const quant::iq4_xs::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b->qs + 16 * i);
    c.q[2 * i] = iq4_levels(low_nibbles(packed));
    c.q[2 * i + 1] = iq4_levels(high_nibbles(packed));
  });
  const int8x8_t packed = vsub_s8((int8x8_t)vcreate_u8(unpack_iq4_scales(b->scales_l, b->scales_h)), vdup_n_s8(32));
  const int16x8_t scale = vmovl_s8(packed);
  set_scales_of_32(c, low_floats(scale), high_floats(scale), fp16_to_fp32(b->d));
  set_no_mins(c);
}

/// Two entries of a codebook: the weights from 16 i on.
template <class Block>
SHOEHORN_INLINE uint8x16_t entries(const Block* b, size_t i) {
  return vcombine_u8(vcreate_u8(entry_of(b, 2 * i)), vcreate_u8(entry_of(b, 2 * i + 1)));
}

template <class Block>
SHOEHORN_INLINE void set_signed_entries(const Block* b, Codes& c) {
  const uint8x16_t bit = (uint8x16_t)vdupq_n_u64(0x8040201008040201ull);
  unroll<4>([&](auto h) SHOEHORN_LAMBDA {
    const uint8x8_t signs = vcreate_u8(signs_of(b, h));
    unroll<4>([&](auto i) SHOEHORN_LAMBDA {
      const uint8x16_t own = vcombine_u8(vdup_lane_u8(signs, 2 * i), vdup_lane_u8(signs, 2 * i + 1)), negative = any_of(own, bit);
      c.q[4 * h + i] = (U8)vsubq_u8(veorq_u8(entries(b, 4 * h + i), negative), negative);
    });
  });
}

/// 2 v + 1
SHOEHORN_INLINE uint16x8_t odd(uint16x8_t v) { return vaddq_u16(vaddq_u16(v, v), vdupq_n_u16(1)); }
SHOEHORN_INLINE void set_odd_scales_of_32(Codes& c, uint16x8_t scale, float d) {
  set_scales_of_32(c, low_floats(odd(scale)), high_floats(odd(scale)), d);
  set_no_mins(c);
}
SHOEHORN_INLINE void set_odd_scales_of_16(Codes& c, uint16x8_t first, uint16x8_t second, float d) {
  set_per_16(c.step, c.step_factor, c.scale,
             {low_floats(odd(first)), high_floats(odd(first)), low_floats(odd(second)), high_floats(odd(second))}, d);
  set_no_mins(c);
}
/// The nibbles of the first four (kHalf 0) or the last four of eight bytes, the low one first.
template <size_t kHalf>
SHOEHORN_INLINE uint16x8_t nibbles_in_order(uint64_t v) {
  const uint8x8_t x = vcreate_u8(v), low = vand_u8(x, vdup_n_u8(15)), high = vshr_n_u8(x, 4);
  return vmovl_u8(kHalf == 0 ? vzip1_u8(low, high) : vzip2_u8(low, high));
}
/// The top nibbles of eight words.
SHOEHORN_INLINE uint16x8_t top_nibbles(uint32x4_t first, uint32x4_t second) {
  return vcombine_u16(vmovn_u32(vshrq_n_u32(first, 28)), vmovn_u32(vshrq_n_u32(second, 28)));
}

SHOEHORN_INLINE void unpack(const quant::iq2_xxs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const auto words = [&](size_t sub) SHOEHORN_LAMBDA { return load<uint32x4_t>(b->sub + sub); };
  set_odd_scales_of_32(c, top_nibbles(vuzp2q_u32(words(0), words(2)), vuzp2q_u32(words(4), words(6))), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq2_xs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const auto scales = load<uint64_t>(b->scales);
  set_odd_scales_of_16(c, nibbles_in_order<0>(scales), nibbles_in_order<1>(scales), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq2_s::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const auto scales = load<uint64_t>(b->scales);
  set_odd_scales_of_16(c, nibbles_in_order<0>(scales), nibbles_in_order<1>(scales), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq3_xxs::Block* b, Codes& c) {
  set_signed_entries(b, c);
  const auto words = [&](size_t sub) SHOEHORN_LAMBDA { return load<uint32x4_t>(b->signs_and_scale + sub); };
  set_odd_scales_of_32(c, top_nibbles(words(0), words(4)), fp16_to_fp32(b->d) * 0.25f);
}

SHOEHORN_INLINE void unpack(const quant::iq3_s::Block* b, Codes& c) {
  set_signed_entries(b, c);
  set_odd_scales_of_32(c, nibbles_in_order<0>(load<uint32_t>(b->scales)), fp16_to_fp32(b->d));
}

SHOEHORN_INLINE void unpack(const quant::iq1_s::Block* b, Codes& c) {
  unroll<16>([&](auto i) SHOEHORN_LAMBDA {
    c.q[i] = (U8)vaddq_u8(entries(b, i), bytes((b->qh[i / 2] & 0x8000) != 0 ? 255 : 1));
  });
  const uint16x8_t qh = load<uint16x8_t>(b->qh);
  set_odd_scales_of_32(c, vandq_u16(vshrq_n_u16(qh, 12), vdupq_n_u16(7)), fp16_to_fp32(b->d) * 0.125f);
}

SHOEHORN_INLINE void unpack(const quant::iq1_m::Block* b, Codes& c) {
  unroll<16>([&](auto i) SHOEHORN_LAMBDA {
    const auto delta = [&](int bit) SHOEHORN_LAMBDA { return vdup_n_u8((b->qh[i] & bit) != 0 ? 255 : 1); };
    c.q[i] = (U8)vaddq_u8(entries(b, i), vcombine_u8(delta(8), delta(128)));
  });
  // Word i / 4, from bit 3 (i % 4) up.
  const int16x8_t shift = {0, -3, -6, -9, 0, -3, -6, -9};
  const auto scales = [&](size_t first) SHOEHORN_LAMBDA {
    const uint16x8_t each = vcombine_u16(vdup_n_u16(b->scales[first]), vdup_n_u16(b->scales[first + 1]));
    return vandq_u16(vshlq_u16(each, shift), vdupq_n_u16(7));
  };
  set_odd_scales_of_16(c, scales(0), scales(2), fp16_to_fp32(quant::iq1_m::scale_of_scales(*b)) * 0.125f);
}

// Formats of 32 weights: eight blocks at a time.

/// The binary16 at offset kOffset of four blocks as floats. Put together in general registers, whose units have nothing else to do.
template <size_t kOffset, class Block>
SHOEHORN_INLINE F32 four_halves(const Block* b) {
  uint64_t h = 0;
  unroll<4>([&](auto i) SHOEHORN_LAMBDA {
    h |= static_cast<uint64_t>(load<uint16_t>(reinterpret_cast<const std::byte*>(b + i) + kOffset)) << (16 * i);
  });
  return (F32)vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(h)));
}

template <class Block>
SHOEHORN_INLINE void set_scales(const Block* b, Codes& c) {
  set_scales_of_32(c, four_halves<offsetof(Block, d)>(b), four_halves<offsetof(Block, d)>(b + 4), 1);
}
/// min = per_scale * scale
SHOEHORN_INLINE void set_mins(Codes& c, float per_scale) {
  set_mins_of_32(c, c.step[0], c.step[1], per_scale);
}
/// -min = m + kShift * scale
template <int kShift, class Block>
SHOEHORN_INLINE void set_offsets(const Block* b, Codes& c) {
  F32 first = four_halves<offsetof(Block, m)>(b), second = four_halves<offsetof(Block, m)>(b + 4);
  if constexpr (kShift != 0) {
    first = multiply_add(c.step[0], splat(static_cast<float>(kShift)), first);
    second = multiply_add(c.step[1], splat(static_cast<float>(kShift)), second);
  }
  set_mins_of_32(c, first, second, -1);
}

template <class Block>
SHOEHORN_INLINE void unpack_nibbles(const Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b[i].qs);
    c.q[2 * i] = (U8)low_nibbles(packed);
    c.q[2 * i + 1] = (U8)high_nibbles(packed);
  });
}

/// Five bits, as code - 16: the nibbles get four ones above where the fifth bit is clear.
template <class Block>
SHOEHORN_INLINE void unpack_five_bits(const Block* b, Codes& c) {
  const uint8x16_t bit = (uint8x16_t)vdupq_n_u64(0x8040201008040201ull);
  const uint8x16_t low_bytes = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1)), high_bytes = vcombine_u8(vdup_n_u8(2), vdup_n_u8(3));
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b[i].qs);
    const uint8x16_t clear = (uint8x16_t)vdupq_n_u32(~load<uint32_t>(b[i].qh));
    c.q[2 * i] = (U8)vsliq_n_u8(packed, any_of(vqtbl1q_u8(clear, low_bytes), bit), 4);
    c.q[2 * i + 1] = (U8)vsriq_n_u8(any_of(vqtbl1q_u8(clear, high_bytes), bit), packed, 4);
  });
}

SHOEHORN_INLINE void unpack(const quant::q4_0::Block* b, Codes& c) {
  unpack_nibbles(b, c);
  set_scales(b, c);
  set_mins(c, 8);
}

SHOEHORN_INLINE void unpack(const quant::q4_1::Block* b, Codes& c) {
  unpack_nibbles(b, c);
  set_scales(b, c);
  set_offsets<0>(b, c);
}

SHOEHORN_INLINE void unpack(const quant::q5_0::Block* b, Codes& c) {
  unpack_five_bits(b, c);
  set_scales(b, c);
  set_no_mins(c);
}

SHOEHORN_INLINE void unpack(const quant::q5_1::Block* b, Codes& c) {
  unpack_five_bits(b, c);
  set_scales(b, c);
  set_offsets<16>(b, c);
}

SHOEHORN_INLINE void unpack(const quant::q8_0::Block* b, Codes& c) {
  unroll<16>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = load<U8>(b[i / 2].qs + 16 * (i % 2)); });
  set_scales(b, c);
  set_no_mins(c);
}

/// Register i of codes of a row of Q8_0, and the scale of each lane.
SHOEHORN_INLINE U8 load_q8_0(const quant::q8_0::Block* b, size_t i, F32& scale) {
  scale = splat(fp16_to_fp32(b[i / 2].d));
  return load<U8>(b[i / 2].qs + 16 * (i % 2));
}

SHOEHORN_INLINE void unpack(const quant::mxfp4::Block* b, Codes& c) {
  const int8x16_t levels = vld1q_s8(quant::mxfp4::kLevels);
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b[i].qs);
    c.q[2 * i] = (U8)vqtbl1q_s8(levels, low_nibbles(packed));
    c.q[2 * i + 1] = (U8)vqtbl1q_s8(levels, high_nibbles(packed));
  });
  const uint16x8_t bits = vmovl_u8(vqsub_u8(vcreate_u8(exponents(b)), vdup_n_u8(1)));
  set_scales_of_32(c, (F32)vshlq_n_u32(vmovl_u16(vget_low_u16(bits)), 23), (F32)vshlq_n_u32(vmovl_high_u16(bits), 23), 1);
  set_no_mins(c);
}

SHOEHORN_INLINE void unpack(const quant::iq4_nl::Block* b, Codes& c) {
  unroll<8>([&](auto i) SHOEHORN_LAMBDA {
    const uint8x16_t packed = vld1q_u8(b[i].qs);
    c.q[2 * i] = iq4_levels(low_nibbles(packed));
    c.q[2 * i + 1] = iq4_levels(high_nibbles(packed));
  });
  set_scales(b, c);
  set_no_mins(c);
}

}  // namespace
}  // namespace shoehorn::kernels
