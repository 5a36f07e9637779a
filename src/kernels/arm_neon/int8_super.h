// 256 weights times as many activations, for simd/decode.inl: the products of a group become one lane, so that a register of scales
// meets a register of sums, and one conversion to float serves four groups.
#pragma once

#include "kernels/arm_neon/unpack.h"

namespace shoehorn::kernels {
namespace {

/// Int8Rows: 256 activations.
struct Int8Super {
  int8_t q[kSuper];
  float scale[kGroups];            ///< x = scale * q; pairs are equal, the scale is of 32
  float sum[kGroups];              ///< of the scaled values, for the mins
  float scale_of_32[kSuper / 32];  ///< the same without repetition,
  float sum_of_32[kSuper / 32];    ///< and for formats with a min per 32
};

SHOEHORN_INLINE void set_group(Int8Super& to, size_t group, const int8_t (&q)[quant::kGroup], float scale, float sum) {
  __builtin_memcpy(to.q + group * quant::kGroup, q, quant::kGroup);
  to.scale[group] = scale;
  to.sum[group] = sum;
  to.scale_of_32[group / 2] = scale;
  to.sum_of_32[group / 2] = group % 2 == 0 ? sum : to.sum_of_32[group / 2] + sum;
}

/// The codes stay as they are.
SHOEHORN_INLINE void arrange(Codes&) {}

constexpr size_t kParts = 1;

/// acc += the products of 256 weights and activations
template <class Rows>
SHOEHORN_INLINE void add_part(const Codes& c, size_t, const Int8Super& x, F32& acc) {
  using Format = FormatOf<typename Rows::BlockType>;
  constexpr size_t kVectors = Format::kScaleGroup / kBytes;  // registers of a group's codes
  const float* scales = kVectors == 1 ? x.scale : x.scale_of_32;
  const float* sums = kVectors == 1 ? x.sum : x.sum_of_32;
  F32 total = Format::kFactors ? F32{} : acc, total_mins = {};
  unroll<kGroupVectors / kVectors>([&](auto i) SHOEHORN_LAMBDA {
    const I32 dots = four_groups<kVectors, Format::kMostCode>(c.q + 4 * kVectors * i, x.q + 4 * Format::kScaleGroup * i);
    total = multiply_add(to_float(dots), c.step[i] * load<F32>(scales + i * kLanes), total);
    if constexpr (Format::kMins) total_mins = multiply_add(c.offset[i], load<F32>(sums + i * kLanes), total_mins);
  });
  acc = Format::kFactors ? multiply_add(total, splat(c.step_factor), acc) : total;
  if constexpr (Format::kMins) acc = multiply_add(total_mins, splat(-c.offset_factor), acc);
}

}  // namespace
}  // namespace shoehorn::kernels
