// 256 weights times as many activations, for simd/decode.inl: the products of a group become one lane, so that a register of scales
// meets a register of sums, and one conversion to float serves four groups.
#pragma once

#include "kernels/arm_neon/unpack.h"
#include "kernels/kernel.h"

namespace shoehorn::kernels {
namespace {

struct Int8Super {
  static constexpr Layout kLayout = Layout::kInt8Rows;
  static constexpr size_t kParts = 1;

  int8_t q[kSuper];
  float scale[kGroups];            ///< x = scale * q; pairs are equal, the scale is of 32
  float sum[kGroups];              ///< of the scaled values, for the mins
  float scale_of_32[kSuper / 32];  ///< the same without repetition,
  float sum_of_32[kSuper / 32];    ///< and for formats with a min per 32

  SHOEHORN_LAMBDA inline void set_group(size_t group, const int8_t (&codes)[quant::kGroup], float its_scale, float its_sum) {
    __builtin_memcpy(q + group * quant::kGroup, codes, quant::kGroup);
    scale[group] = its_scale;
    sum[group] = its_sum;
    scale_of_32[group / 2] = its_scale;
    sum_of_32[group / 2] = group % 2 == 0 ? its_sum : sum_of_32[group / 2] + its_sum;
  }

  /// The codes stay as they are.
  static SHOEHORN_LAMBDA inline void arrange(Codes&) {}

  /// acc += the products of 256 weights and activations
  template <class Rows>
  SHOEHORN_LAMBDA inline void add_part(const Codes& c, size_t, F32& acc) const {
    using Format = FormatOf<typename Rows::BlockType>;
    constexpr size_t kVectors = Format::kScaleGroup / kBytes;  // registers of a group's codes
    const float* scales = kVectors == 1 ? scale : scale_of_32;
    const float* sums = kVectors == 1 ? sum : sum_of_32;
    F32 total = Format::kFactors ? F32{} : acc, total_mins = {};
    unroll<kGroupVectors / kVectors>([&](auto i) SHOEHORN_LAMBDA {
      const I32 dots = four_groups<kVectors, Format::kMostCode>(c.q + 4 * kVectors * i, q + 4 * Format::kScaleGroup * i);
      total = multiply_add(to_float(dots), c.step[i] * load<F32>(scales + i * kLanes), total);
      if constexpr (Format::kMins) total_mins = multiply_add(c.offset[i], load<F32>(sums + i * kLanes), total_mins);
    });
    acc = Format::kFactors ? multiply_add(total, splat(c.step_factor), acc) : total;
    if constexpr (Format::kMins) acc = multiply_add(total_mins, splat(-c.offset_factor), acc);
  }
};

}  // namespace
}  // namespace shoehorn::kernels
