// Products of int8: sums per group of weights for few tokens, and panels times tiles for many, with whatever the file is compiled
// for: smmla (i8mm), sdot, or widening multiplications.
//
// Without sdot a register of products holds 16-bit sums, so what matters is how many fit before they must be widened: codes of four
// bits leave room for a whole group of 32, pairwise additions included.
#pragma once

#include "kernels/arm_neon/vector.h"

namespace shoehorn::kernels {
namespace {

constexpr int kMostActivation = 127;

SHOEHORN_INLINE I32 pairs(I32 a, I32 b) { return (I32)vpaddq_s32((int32x4_t)a, (int32x4_t)b); }

/// Four registers to one: lane l of the result is the sum of register l.
SHOEHORN_INLINE I32 sums_of(I32 a, I32 b, I32 c, I32 d) { return pairs(pairs(a, b), pairs(c, d)); }

#if defined(__ARM_FEATURE_DOTPROD)

/// acc[l] += sum_k w[4 l + k] * x[4 l + k], all signed
template <bool kSigned>
SHOEHORN_INLINE I32 dot(I32 acc, U8 w, U8 x) { return (I32)vdotq_s32((int32x4_t)acc, (int8x16_t)w, (int8x16_t)x); }

/// The products of four consecutive groups of 16 kVectors weights, a lane each. kMostCode: the largest magnitude of a code.
template <size_t kVectors, int kMostCode>
SHOEHORN_INLINE I32 four_groups(const U8* w, const int8_t* x) {
  I32 group[4] = {};
  unroll<4>([&](auto g) SHOEHORN_LAMBDA {
    unroll<kVectors>([&](auto i) SHOEHORN_LAMBDA {
      group[g] = dot<true>(group[g], w[g * kVectors + i], load<U8>(x + (g * kVectors + i) * kBytes));
    });
  });
  return sums_of(group[0], group[1], group[2], group[3]);
}

/// acc + the products of 256 codes of at most two with int8, in any order of lanes
SHOEHORN_INLINE I32 ternary_products(I32 acc, const U8* w, const int8_t* x) {
  I32 sums[2] = {acc};
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA { sums[i % 2] = dot<false>(sums[i % 2], w[i], load<U8>(x + i * kBytes)); });
  return sums[0] + sums[1];
}

#else

SHOEHORN_INLINE int16x8_t products(U8 w, U8 x) {
  const int8x16_t a = (int8x16_t)w, b = (int8x16_t)x;
  return vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b);
}
SHOEHORN_INLINE int16x8_t add_products(int16x8_t acc, U8 w, U8 x) {
  const int8x16_t a = (int8x16_t)w, b = (int8x16_t)x;
  return vmlal_high_s8(vmlal_s8(acc, vget_low_s8(a), vget_low_s8(b)), a, b);
}

/// acc += products of int8, in any order of lanes; |w| <= 128, |x| <= 127, so that two products fit 16 bits
template <bool kSigned>
SHOEHORN_INLINE I32 dot(I32 acc, U8 w, U8 x) { return (I32)vpadalq_s16((int32x4_t)acc, products(w, x)); }

template <size_t kVectors, int kMostCode>
SHOEHORN_INLINE I32 four_groups(const U8* w, const int8_t* x) {
  constexpr int kMost = 2 * static_cast<int>(kVectors) * kMostCode * kMostActivation, kRoom = 32767;
  const auto activations = [&](size_t i) SHOEHORN_LAMBDA { return load<U8>(x + i * kBytes); };
  if constexpr (kMost > kRoom) {
    I32 group[4];
    unroll<4>([&](auto g) SHOEHORN_LAMBDA {
      group[g] = (I32)vpaddlq_s16(products(w[g * kVectors], activations(g * kVectors)));
      for (size_t i = g * kVectors + 1; i < (g + 1) * kVectors; ++i) group[g] = dot<true>(group[g], w[i], activations(i));
    });
    return sums_of(group[0], group[1], group[2], group[3]);
  } else {
    int16x8_t group[4];
    unroll<4>([&](auto g) SHOEHORN_LAMBDA {
      group[g] = products(w[g * kVectors], activations(g * kVectors));
      for (size_t i = g * kVectors + 1; i < (g + 1) * kVectors; ++i) group[g] = add_products(group[g], w[i], activations(i));
    });
    if constexpr (2 * kMost > kRoom) {
      return sums_of((I32)vpaddlq_s16(group[0]), (I32)vpaddlq_s16(group[1]), (I32)vpaddlq_s16(group[2]), (I32)vpaddlq_s16(group[3]));
    } else {
      const int16x8_t first = vpaddq_s16(group[0], group[1]), second = vpaddq_s16(group[2], group[3]);
      if constexpr (4 * kMost > kRoom) {
        return pairs((I32)vpaddlq_s16(first), (I32)vpaddlq_s16(second));
      } else {
        return (I32)vpaddlq_s16(vpaddq_s16(first, second));
      }
    }
  }
}

/// All fit 16 bits.
SHOEHORN_INLINE I32 ternary_products(I32 acc, const U8* w, const int8_t* x) {
  int16x8_t sums[2] = {};
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA { sums[i % 2] = add_products(sums[i % 2], w[i], load<U8>(x + i * kBytes)); });
  return (I32)vpadalq_s16((int32x4_t)acc, vaddq_s16(sums[0], sums[1]));
}

#endif

/// Four rows of 16 columns to the units of a panel.
SHOEHORN_INLINE void interleave(I32 (&r)[4]) {
  if constexpr (kUnit == 4) {
    transpose(r);
  } else if constexpr (kUnit == 8) {
    const I32 first = low_halves(r[2], r[3]), second = high_halves(r[0], r[1]);
    r[3] = high_halves(r[2], r[3]);
    r[0] = low_halves(r[0], r[1]);
    r[1] = first;
    r[2] = second;
  }
}

/// acc[token][v] += the columns [first, end) of a panel times those of kTiles granules of tokens; lanes are rows of the panel.
template <size_t kTiles>
SHOEHORN_INLINE void multiply_columns(I32 (&acc)[kTiles * kGranule][kPanelVectors], const I32 (*units)[kPanelVectors],
                                      const std::byte* codes, size_t code_stride, size_t first, size_t end) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  // acc[granule][2 h + i]: tokens 2 h, 2 h + 1 by rows 2 i, 2 i + 1 of four; put in order at the end.
  for (size_t column = first; column < end; column += kUnit) {
    unroll<kTiles>([&](auto g) SHOEHORN_LAMBDA {
      unroll<2>([&](auto h) SHOEHORN_LAMBDA {
        const int8x16_t x = load<int8x16_t>(codes + g * code_stride + column * kGranule + h * kBytes);
        unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA {
          unroll<2>([&](auto i) SHOEHORN_LAMBDA {
            I32& sum = acc[g * kGranule + 2 * h + i][v];
            sum = (I32)vmmlaq_s32((int32x4_t)sum, x, (int8x16_t)units[column / 4 + i][v]);
          });
        });
      });
    });
  }
  unroll<kTiles * kGranule / 2>([&](auto pair) SHOEHORN_LAMBDA {
    unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA {
      I32 &even = acc[2 * pair][v], &odd = acc[2 * pair + 1][v];
      const I32 low = low_halves(even, odd);
      odd = high_halves(even, odd);
      even = low;
    });
  });
#elif defined(__ARM_FEATURE_DOTPROD)
  for (size_t column = first; column < end; column += kUnit) {
    unroll<kTiles>([&](auto g) SHOEHORN_LAMBDA {
      const int8x16_t x = load<int8x16_t>(codes + g * code_stride + column * kGranule);
      unroll<kGranule>([&](auto lane) SHOEHORN_LAMBDA {
        unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA {
          I32& sum = acc[g * kGranule + lane][v];
          sum = (I32)vdotq_laneq_s32((int32x4_t)sum, (int8x16_t)units[column / 4][v], x, lane);
        });
      });
    });
  }
#else
  // Four rows by four tokens at a time: sixteen sums stay in registers.
  for (size_t g = 0; g < kTiles; ++g) {
    for (size_t v = 0; v < kPanelVectors; ++v) {
      I32 sums[kGranule][4] = {};
      for (size_t column = first; column < end; column += kUnit) {
        const U8* x = reinterpret_cast<const U8*>(codes + g * code_stride + column * kGranule);
        unroll<4>([&](auto row) SHOEHORN_LAMBDA {
          const U8 w = (U8)units[column / 4 + row][v];
          unroll<kGranule>([&](auto t) SHOEHORN_LAMBDA { sums[t][row] = dot<true>(sums[t][row], w, x[t]); });
        });
      }
      unroll<kGranule>([&](auto t) SHOEHORN_LAMBDA {
        acc[g * kGranule + t][v] += sums_of(sums[t][0], sums[t][1], sums[t][2], sums[t][3]);
      });
    }
  }
#endif
}

}  // namespace
}  // namespace shoehorn::kernels
