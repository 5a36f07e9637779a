// The vocabulary of simd/*.inl in Advanced SIMD of ARMv8.0. What depends on the dot product and matrix instructions is in
// products.h.
#pragma once

#include <arm_neon.h>

#define SHOEHORN_VECTOR_BYTES 16
#define SHOEHORN_CENTRED_CODES true  // codes of three and five bits are put together around zero
#define SHOEHORN_ROW_BY_ROW true     // rows that are read side by side are computed one by one: there are no registers for more
#define SHOEHORN_OWN_INT8_SUPER     // int8_super.h
#define SHOEHORN_OWN_TERNARY_PRODUCTS  // products.h
#define SHOEHORN_OWN_PANEL_PRODUCT  // products.h
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define SHOEHORN_UNIT_BYTES 8  // smmla takes eight columns of two rows
#elif defined(__ARM_FEATURE_DOTPROD)
#define SHOEHORN_UNIT_BYTES 4
#else
#define SHOEHORN_UNIT_BYTES 16  // sums along a row: a register is a row's
#endif
#include "kernels/simd/vector.h"

namespace shoehorn::kernels {
namespace {

constexpr size_t kGranule = 4;       // tokens that a tile interleaves: a register of quads
constexpr size_t kPanelVectors = 2;  // registers of rows in a panel
constexpr size_t kPanelBias = 0;     // signed times signed everywhere
constexpr int kSignedBias = 0;
constexpr bool kFastBatchInt8 = true;
constexpr size_t kBatchFrom = 9;     // tokens

SHOEHORN_INLINE F32 to_float(I32 v) { return (F32)vcvtq_f32_s32((int32x4_t)v); }
SHOEHORN_INLINE I32 round_to_int(F32 v) { return (I32)vcvtnq_s32_f32((float32x4_t)v); }
SHOEHORN_INLINE F32 absolute(F32 v) { return (F32)vabsq_f32((float32x4_t)v); }
SHOEHORN_INLINE F32 larger(F32 a, F32 b) { return (F32)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
SHOEHORN_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
SHOEHORN_INLINE float sum(F32 v) { return vaddvq_f32((float32x4_t)v); }
SHOEHORN_INLINE int32_t sum(I32 v) { return vaddvq_s32((int32x4_t)v); }
SHOEHORN_INLINE float largest(F32 v) { return vmaxvq_f32((float32x4_t)v); }

/// The value of each pair of codes' group, for register i of codes: it is one group.
SHOEHORN_INLINE U16 spread_to_pairs(const uint16_t* groups, size_t i) { return (U16)vdupq_n_u16(groups[i]); }

/// Sixteen integers as int8; v is 16 / kLanes registers.
SHOEHORN_INLINE void store_int8(int8_t* to, const I32* v) {
  const int16x8_t low = vcombine_s16(vqmovn_s32((int32x4_t)v[0]), vqmovn_s32((int32x4_t)v[1]));
  const int16x8_t high = vcombine_s16(vqmovn_s32((int32x4_t)v[2]), vqmovn_s32((int32x4_t)v[3]));
  vst1q_s8(to, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}

/// kLanes integers as 16 bits, modulo 2^16.
SHOEHORN_INLINE void store_int16(uint16_t* to, I32 v) { vst1_u16(to, vmovn_u32((uint32x4_t)v)); }

SHOEHORN_INLINE F32 load_f16(const uint16_t* from) { return (F32)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
SHOEHORN_INLINE F32 load_bf16(const uint16_t* from) { return (F32)vshll_n_u16(vld1_u16(from), 16); }
/// kLanes bytes as integers.
SHOEHORN_INLINE I32 widen(const uint8_t* from) {
  const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(load<uint32_t>(from)));
  return (I32)vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
}
SHOEHORN_INLINE I32 widen(const int8_t* from) {
  const int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(load<uint32_t>(from)));
  return (I32)vmovl_s16(vget_low_s16(vmovl_s8(bytes)));
}

SHOEHORN_INLINE void store_f16(uint16_t* to, F32 v) { vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v))); }

/// Lane i: the sum of register i.
SHOEHORN_INLINE F32 lane_sums(const F32 (&v)[4]) {
  return (F32)vpaddq_f32(vpaddq_f32((float32x4_t)v[0], (float32x4_t)v[1]), vpaddq_f32((float32x4_t)v[2], (float32x4_t)v[3]));
}

/// v * 2^n for whole n in the range of normal floats
SHOEHORN_INLINE F32 times_power_of_two(F32 v, F32 n) { return v * (F32)((round_to_int(n) + 127) << 23); }
SHOEHORN_INLINE F32 round_to_whole(F32 v) { return (F32)vrndnq_f32((float32x4_t)v); }

/// The low, or the high, halves of two registers.
SHOEHORN_INLINE I32 low_halves(I32 a, I32 b) { return (I32)vzip1q_s64((int64x2_t)a, (int64x2_t)b); }
SHOEHORN_INLINE I32 high_halves(I32 a, I32 b) { return (I32)vzip2q_s64((int64x2_t)a, (int64x2_t)b); }

/// 4 x 4 units of 32 bits.
SHOEHORN_INLINE void transpose(I32 (&r)[4]) {
  const I32 even01 = (I32)vtrn1q_s32((int32x4_t)r[0], (int32x4_t)r[1]), odd01 = (I32)vtrn2q_s32((int32x4_t)r[0], (int32x4_t)r[1]);
  const I32 even23 = (I32)vtrn1q_s32((int32x4_t)r[2], (int32x4_t)r[3]), odd23 = (I32)vtrn2q_s32((int32x4_t)r[2], (int32x4_t)r[3]);
  r[0] = low_halves(even01, even23);
  r[1] = low_halves(odd01, odd23);
  r[2] = high_halves(even01, even23);
  r[3] = high_halves(odd01, odd23);
}

}  // namespace
}  // namespace shoehorn::kernels
