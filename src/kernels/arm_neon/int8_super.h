// 256 weights times as many activations, for simd/decode.inl: the products of a group become one lane, so that a register of scales
// meets a register of sums, and one conversion to float serves four groups.
#pragma once

#include "kernels/arm_neon/unpack.h"

namespace shoehorn::kernels {
namespace {

/// Int8Rows: 256 activations.
struct Int8Super {
  int8_t q[kSuper];
  float scale[kSuper / 32];      ///< x = scale * q
  float sum[kGroups];            ///< of the scaled values, for the mins
  float sum_of_32[kSuper / 32];  ///< the same for formats with a min per 32
};

SHOEHORN_INLINE void set_group(Int8Super& to, size_t group, float scale, float sum) {
  to.scale[group / 2] = scale;
  to.sum[group] = sum;
  to.sum_of_32[group / 2] = group % 2 == 0 ? sum : to.sum_of_32[group / 2] + sum;
}

/// acc += the products of 256 weights and activations but for their mins, which go to `mins`.
template <class Rows>
SHOEHORN_INLINE void add_super(const Codes& c, const Int8Super& x, F32& acc, F32& mins) {
  using Format = FormatOf<typename Rows::BlockType>;
  constexpr size_t kVectors = Format::kScaleGroup / kBytes;  // registers of a group's codes
  unroll<kGroupVectors / kVectors>([&](auto i) SHOEHORN_LAMBDA {
    const I32 sums = four_groups<kVectors, Format::kMostCode>(c.q + 4 * kVectors * i, x.q + 4 * Format::kScaleGroup * i);
    F32 scale, min, sum;
    if constexpr (kVectors == 2) {
      scale = c.scale_of_32[i] * load<F32>(x.scale + i * kLanes);
      min = c.min_of_32[i];
      sum = load<F32>(x.sum_of_32 + i * kLanes);
    } else {
      scale = c.scale[i] * twice<i % 2>(load<F32>(x.scale + i / 2 * kLanes));
      min = c.min[i];
      sum = load<F32>(x.sum + i * kLanes);
    }
    acc = multiply_add(to_float(sums), scale, acc);
    if constexpr (Format::kMins) mins = multiply_add(min, sum, mins);
  });
}

}  // namespace
}  // namespace shoehorn::kernels
