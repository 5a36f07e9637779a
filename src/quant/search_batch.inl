// Sixteen sub-blocks side by side, as the searches take them, and the fit of a superblock's factor.
#pragma once

#include "quant/lanes.h"
#include "quant/search.h"

namespace shoehorn::quant {
namespace {

constexpr size_t kMaxSub = 32;  // weights of a sub-block

/// 2^-25 is the largest number that rounds to zero as a binary16; codes multiply a scale by at least one.
constexpr float kUnreachable = 0x1p-25f;

/// No weight is left out of a fit altogether: a sub-block whose errors do not matter still gets sensible scales.
constexpr float kLeastWeight = 1e-6f;

/// A number per sub-block. What belongs to a superblock is there once for each of its sub-blocks.
struct PerLane {
  alignas(64) float at[kSearchLanes] = {};

  /// Lanes [first, first + kWidth).
  Floats from(size_t first) const { return load(at + first); }
  void set(size_t first, Floats v) { store(at + first, v); }
};

/// Blocks made ready for a search: each scaled by a power of two such that its max |x| is in [1, 2), so that no float
/// overflows or underflows on the way, with positive weights of the squared error. Blocks that are to be encoded as zeros,
/// and lanes without a block, have x = 0.
struct Batch {
  size_t n_sub, size;  ///< sub-blocks per block, weights per sub-block
  alignas(64) float x[kMaxSub * kSearchLanes];  ///< weight i of sub-block s at i * kSearchLanes + s
  alignas(64) float w[kMaxSub * kSearchLanes];
  PerLane unit, inverse_unit;  ///< original = x * unit; inverse_unit is 0 for blocks of zeros
};

/// The sub-blocks that share a register: weight i of each at i * kSearchLanes from here.
struct Columns {
  const float *x, *w;
  size_t size;
};

/// The sub-blocks of lanes [first, first + kWidth).
SHOEHORN_INLINE Columns columns(const Batch& batch, size_t first) {
  return {batch.x + first, batch.w + first, batch.size};
}

/// out[i][s] = in[s][i] for 16 rows of `size`.
SHOEHORN_INLINE void transpose(const float* in, size_t size, float* out) {
  typedef float Quad __attribute__((vector_size(16)));
  for (size_t s = 0; s < kSearchLanes; s += 4) {
    for (size_t i = 0; i < size; i += 4) {
      Quad row[4];
#pragma GCC unroll 4
      for (size_t k = 0; k < 4; ++k) __builtin_memcpy(&row[k], in + (s + k) * size + i, sizeof(Quad));
      const Quad low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
      const Quad high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
      const Quad low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
      const Quad high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
      const Quad column[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                              __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                              __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                              __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
#pragma GCC unroll 4
      for (size_t k = 0; k < 4; ++k) __builtin_memcpy(out + (i + k) * kSearchLanes + s, &column[k], sizeof(Quad));
    }
  }
}

/// Combines the lanes of each superblock, by halves; every lane gets the result.
template <class Combine>
SHOEHORN_INLINE void over_blocks(PerLane& value, size_t n_sub, Combine combine) {
  for (size_t step = n_sub / 2; step > 0; step /= 2) {
    const PerLane before = value;
    for (size_t g = 0; g < kSearchLanes; g += kWidth) {
      const Floats own = before.from(g);
      value.set(g, combine(own, step < kWidth ? exchanged(own, step) : before.from(g ^ step)));
    }
  }
}

SHOEHORN_INLINE void sum_over_blocks(PerLane& value, size_t n_sub) {
  over_blocks(value, n_sub, [](Floats a, Floats b) { return a + b; });
}

SHOEHORN_INLINE void max_over_blocks(PerLane& value, size_t n_sub) {
  over_blocks(value, n_sub, [](Floats a, Floats b) { return max_of(a, b); });
}

/// Fills the batch from 16 sub-blocks, importance as for Search.
SHOEHORN_INLINE void prepare(const float* in, const float* importance, size_t n_sub, size_t size, float rms_share,
                             Batch& batch) {
  batch.n_sub = n_sub;
  batch.size = size;
  const Floats zero = splat(0), one = splat(1);
  PerLane largest, most;
  transpose(in, size, batch.x);
  if (importance != nullptr) transpose(importance, size, batch.w);
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    Floats largest_x = zero, most_w = zero;
    for (size_t i = g; i < size * kSearchLanes; i += kSearchLanes) {
      largest_x = max_of(largest_x, magnitude(load(batch.x + i)));
      if (importance != nullptr) most_w = max_of(most_w, load(batch.w + i));
    }
    largest.set(g, largest_x);
    most.set(g, most_w);
  }
  max_over_blocks(largest, n_sub);
  max_over_blocks(most, n_sub);

  PerLane heaviest;
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    // The power of two below the largest weight is its exponent bits. 2^-127 is a denormal; 2^126 is as far as the scaling
    // need go.
    const Floats power = min_of((Floats)((Ints)largest.from(g) & 0x7f800000), splat(0x1p126f));
    const Mask reached = less(splat(kUnreachable), largest.from(g));
    const Floats unit = pick(reached, power, one);
    const Floats inverse_unit = pick(reached, (Floats)(0x7f000000 - (Ints)unit), zero);
    batch.unit.set(g, unit);
    batch.inverse_unit.set(g, inverse_unit);

    Floats square = zero;
    for (size_t i = g; i < size * kSearchLanes; i += kSearchLanes) {
      const Floats x = load(batch.x + i) * inverse_unit;
      store(batch.x + i, x);
      square += x * x;
    }
    const Floats base = rms_share * square_root(square / static_cast<float>(size));
    const Mask weighted = both(less(zero, most.from(g)), less(most.from(g), splat(__builtin_inff())));
    const Floats divisor = pick(weighted, most.from(g), one);
    Floats heaviest_w = zero;
    for (size_t i = g; i < size * kSearchLanes; i += kSearchLanes) {
      Floats w = base + magnitude(load(batch.x + i));
      if (importance != nullptr) w *= pick(weighted, load(batch.w + i) / divisor, one);
      store(batch.w + i, w);
      heaviest_w = max_of(heaviest_w, w);
    }
    heaviest.set(g, heaviest_w);
  }
  max_over_blocks(heaviest, n_sub);
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    const Floats least = heaviest.from(g) * kLeastWeight;
    for (size_t i = g; i < size * kSearchLanes; i += kSearchLanes) store(batch.w + i, max_of(load(batch.w + i), least));
  }
}

/// 0 for a divisor so small that the reciprocal could overflow a product.
SHOEHORN_INLINE Floats reciprocal(Floats v) {
  const Mask usable = less(splat(1e-37f), magnitude(v));
  return pick(usable, 1.0f / pick(usable, v, splat(1)), splat(0));
}

/// a / b, 0 where b is not positive.
SHOEHORN_INLINE Floats ratio(Floats a, Floats b) {
  const Mask usable = less(splat(0), b);
  return pick(usable, a / pick(usable, b, splat(1)), splat(0));
}

/// The binary16 nearest to x * unit, saturating at the largest finite, divided by unit.
SHOEHORN_INLINE Floats stored_value(Floats x, Floats unit, Floats inverse_unit) {
  const Floats v = clamped(x * unit, splat(-65504), splat(65504));
  // Normal numbers lose 13 bits; below 2^-14 the float adder rounds at 2^-24.
  const Floats normal = (Floats)(((Ints)v + 0x0fff + (((Ints)v >> 13) & 1)) & ~0x1fff);
  const Floats small = (magnitude(v) + 0.5f) - 0.5f;
  const Floats subnormal = (Floats)((Ints)small | ((Ints)v & INT32_MIN));
  return pick(less(magnitude(v), splat(0x1p-14f)), subnormal, normal) * inverse_unit;
}

/// The same, but the smallest binary16 rather than zero for an x that is not zero: codes can only make up for a scale
/// that is too large.
SHOEHORN_INLINE Floats stored_scale(Floats x, Floats unit, Floats inverse_unit) {
  const Floats zero = splat(0), stored = stored_value(x, unit, inverse_unit);
  const Floats smallest = (Floats)((Ints)(splat(0x1p-24f) * inverse_unit) | ((Ints)x & INT32_MIN));
  return pick(less(zero, magnitude(stored)), stored, pick(less(zero, magnitude(x)), smallest, zero));
}

/// The bits of a value that came from the above.
SHOEHORN_INLINE uint16_t stored_bits(float stored, float unit) { return fp32_to_fp16(stored * unit); }

/// The lane with the largest number, the first of them if there are several.
SHOEHORN_INLINE size_t largest_lane(const PerLane& values) {
  Floats largest = values.from(0);
  for (size_t g = kWidth; g < kSearchLanes; g += kWidth) largest = max_of(largest, values.from(g));
  for (size_t step = kWidth / 2; step > 0; step /= 2) largest = max_of(largest, exchanged(largest, step));
  size_t g = 0;
  while (g + kWidth < kSearchLanes && !any(equal(values.from(g), largest))) g += kWidth;
  return g + first_lane(equal(values.from(g), largest));
}

/// Per superblock the factor d, as stored, with which d * integers of lo..hi come closest to the values, errors squared
/// and weighted. lo == 0 asks for d >= 0 and takes negative values for zero.
SHOEHORN_INLINE PerLane fit_factors(const Batch& batch, const PerLane& value, const PerLane& weight, int lo, int hi) {
  PerLane most = value, least, d;
  for (size_t g = 0; g < kSearchLanes; g += kWidth) least.set(g, -value.from(g));
  max_over_blocks(most, batch.n_sub);
  max_over_blocks(least, batch.n_sub);
  const Floats lowest = splat(static_cast<float>(lo)), highest = splat(static_cast<float>(hi));

  for (size_t first = 0; first < kSearchLanes; first += batch.n_sub) {
    const bool downwards = lo < 0 && least.at[first] > most.at[first];
    const float extreme = downwards ? -least.at[first] : most.at[first];
    if (!(__builtin_fabsf(extreme) > 1e-20f)) continue;
    const Floats unit = splat(batch.unit.at[first]), inverse_unit = splat(batch.inverse_unit.at[first]);

    // Trials put the largest value near either end of the integers, in turn. A subnormal factor has few digits; smaller
    // integers times a larger one may then come closer.
    const float top = static_cast<float>(hi);
    const bool coarse = __builtin_fabsf(extreme) * batch.unit.at[first] < 0x1p-14f * top;
    const int n_trials = coarse ? 96 : 16, n_ends = lo < 0 ? 2 : 1;
    const float below = coarse ? 0.75f * top : lo < 0 ? 2.5f : 1.5f;
    const float step = (below + 1) / static_cast<float>(n_trials / n_ends - 1);
    PerLane best, gain;
    for (size_t g = 0; g < kSearchLanes; g += kWidth) {
      Floats best_d = splat(0), best_gain = splat(-1), refitted = splat(0);
      const auto try_factors = [&](Floats factor) {
        const Floats stored = stored_scale(factor, unit, inverse_unit), inverse = reciprocal(stored);
        Floats vq = splat(0), qq = splat(0);
        for (size_t s = first; s < first + batch.n_sub; ++s) {
          const Floats q = rounded(clamped(value.at[s] * inverse, lowest, highest)), wq = weight.at[s] * q;
          vq += wq * value.at[s];
          qq += wq * q;
        }
        const Floats gained = stored * (2 * vq - stored * qq);
        const Mask better = less(best_gain, gained);
        best_gain = pick(better, gained, best_gain);
        best_d = pick(better, stored, best_d);
        refitted = pick(better, ratio(vq, qq), refitted);
      };
      for (int t = static_cast<int>(g); t < n_trials; t += static_cast<int>(kSearchLanes)) {
        const Ints trial = t + kLaneNumber;
        const Mask at_bottom = less(splat(0), __builtin_convertvector(trial & (n_ends - 1), Floats));
        const Floats rise = step * __builtin_convertvector(trial >> (n_ends - 1), Floats) - below;
        try_factors(extreme / pick(at_bottom, lowest - rise, highest + rise));
      }
      // The best of each lane is refitted to its integers.
      for (int pass = 0; pass < 2; ++pass) try_factors(refitted);
      best.set(g, best_d);
      gain.set(g, best_gain);
    }
    const float chosen = best.at[largest_lane(gain)];
    for (size_t s = first; s < first + batch.n_sub; ++s) d.at[s] = chosen;
  }
  return d;
}

}  // namespace
}  // namespace shoehorn::quant
