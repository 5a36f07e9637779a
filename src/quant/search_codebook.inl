// The search for formats with a codebook. A superblock at a time: first each sub-block by itself with many trial
// scales, which gives a set of entries for each; then the superblock's factor, against the best of these sets at the
// scales that the factor leaves; then factor and scales in turn as in search_symmetric.inl, entries chosen against what
// will be stored.
//
// The entry for given scale is the best by weighted error among those near the weights rounded one by one. Here the
// lanes are these entries, sixteen of them; the errors of each weight at each level lie in a table, and the levels of
// an entry pick from it.
#pragma once

#include "quant/codebooks.h"
#include "quant/search_batch.inl"

namespace shoehorn::quant {
namespace {

static_assert(kNearEntries == kSearchLanes);

constexpr size_t kTable = 32;  // errors of an entry's weights at each level: 8 weights at 4, or 4 at 8

/// table[at mod kPeriod] in every lane, for kPeriod 4 or 8.
template <size_t kPeriod>
SHOEHORN_INLINE Floats look_up(const float* table, Ints at) {
#if defined(__AVX512F__)
  if constexpr (kPeriod == 4) {
    return (Floats)_mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(table)), (__m512i)at);
  } else {
    return (Floats)_mm512_permutexvar_ps((__m512i)at, _mm512_broadcast_f32x8(_mm256_loadu_ps(table)));
  }
#elif defined(__AVX2__)
  if constexpr (kPeriod == 4) {
    return (Floats)_mm256_permutevar_ps(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(table)), (__m256i)at);
  } else {
    return (Floats)_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)at);
  }
#else
  Floats found;
  for (size_t i = 0; i < kWidth; ++i) found[i] = table[static_cast<size_t>(at[i]) % kPeriod];
  return found;
#endif
}

SHOEHORN_INLINE float larger(float a, float b) { return a > b ? a : b; }

/// The sums over weights with their levels: for any scale s the error falls by s (2 xq - s qq) against zeros.
struct CodebookSums {
  float xq = 0, qq = 0;

  float gain_of(float s) const { return s * (2 * xq - s * qq); }
  void add(const CodebookSums& other) {
    xq += other.xq;
    qq += other.qq;
  }
};

/// The entries of a sub-block.
struct CodebookEntries {
  uint16_t entry[8];
  bool down[4];  ///< of each eight weights
};

/// A superblock as the search sees it; kDims weights are an entry. With kDeltas 2 there are two tables, with the delta
/// up and down.
template <size_t kDims, size_t kDeltas>
class CodebookBlock {
 public:
  static constexpr size_t kStride = kTable / kDims, kBits = kDims == 8 ? 2 : 3, kEntries = kMaxBlock / kDims;

  CodebookBlock(const Batch& batch, size_t first_lane, const CodebookFormat& format)
      : format_(format), near_(format.near()) {
    float value[kDeltas][kStride] = {};
    for (size_t delta = 0; delta < kDeltas; ++delta) {
      for (size_t l = 0; l < format.n_levels; ++l)
        value[delta][l] = static_cast<float>(format.level[l]) + delta_of(delta);
    }
    for (size_t i = 0; i < kMaxBlock; ++i) {
      const size_t at = i % format.sub_size * kSearchLanes + first_lane + i / format.sub_size;
      const float x = batch.x[at], w = batch.w[at];
      const bool negative = format.signs != CodebookFormat::Signs::kInLevels && x < 0;
      signs_[i / 8] = static_cast<uint8_t>(signs_[i / 8] | (negative << (i % 8)));
      x_[i] = negative ? -x : x;
      wx_[i] = w * x_[i];
      for (size_t delta = 0; delta < kDeltas; ++delta) {
        for (size_t l = 0; l < kStride; ++l) {
          const float v = value[delta][l];
          xq_[table_of(i, delta)][i % kDims * kStride + l] = wx_[i] * v;
          qq_[table_of(i, delta)][i % kDims * kStride + l] = w * v * v;
        }
      }
    }
    if (format.signs != CodebookFormat::Signs::kEven) return;
    for (size_t eight = 0; eight < kMaxBlock / 8; ++eight) {
      if (__builtin_popcount(signs_[eight]) % 2 == 0) continue;
      size_t least = 8 * eight;
      for (size_t i = least; i < 8 * eight + 8; ++i) least = wx_[i] < wx_[least] ? i : least;
      flip(least);
      odd_[eight] = true;
      flipped_[eight] = least;
    }
  }

  /// The entries of a sub-block that are best for a scale.
  CodebookSums choose(size_t sub, float scale, CodebookEntries& out) const {
    CodebookSums sums[kDeltas], all;
    CodebookEntries entries_down;
    uint8_t nearest[kDeltas][kMaxSub];
    for (size_t delta = 0; delta < kDeltas; ++delta) round_to_levels(sub, scale, delta, nearest[delta]);
    const size_t first = sub * format_.sub_size;
    for (size_t i = 0; i < format_.sub_size; i += 8) {
      CodebookSums eight[kDeltas];
      for (size_t delta = 0; delta < kDeltas; ++delta) {
        for (size_t e = i; e < i + 8; e += kDims) {
          const uint32_t entry = choose_entry(first + e, scale, delta, nearest[delta] + e, eight[delta]);
          (delta == 0 ? out : entries_down).entry[e / kDims] = static_cast<uint16_t>(entry >> 16);
        }
        sums[delta].add(eight[delta]);
      }
      if constexpr (kDeltas == 1) continue;
      // Deltas are chosen per eight weights, or at the end of the sub-block for all of it.
      const bool own = format_.delta_size == 8;
      if (!own && i + 8 < format_.sub_size) continue;
      const CodebookSums* choice = own ? eight : sums;
      const bool down = choice[kDeltas - 1].gain_of(scale) > choice[0].gain_of(scale);
      for (size_t k = own ? i / 8 : 0; k <= i / 8; ++k) {
        out.down[k] = down;
        if (down) out.entry[k] = entries_down.entry[k];
      }
      all.add(choice[down ? kDeltas - 1 : 0]);
    }
    return kDeltas == 1 ? sums[0] : all;
  }

  /// Where an even number of signs is asked for, flips the one that costs least at this scale and with the entries that
  /// go with it.
  void choose_flips(size_t sub, float scale) {
    CodebookEntries entries;
    for (size_t i = sub * format_.sub_size; i < (sub + 1) * format_.sub_size; i += 8) {
      if (!odd_[i / 8]) continue;
      size_t best = flipped_[i / 8];
      float best_gain = choose(sub, scale, entries).gain_of(scale);
      for (size_t k = i; k < i + 8; ++k) {
        flip(flipped_[i / 8]);
        flip(flipped_[i / 8] = k);
        const float gain = choose(sub, scale, entries).gain_of(scale);
        if (gain > best_gain) {
          best_gain = gain;
          best = k;
        }
      }
      flip(flipped_[i / 8]);
      flip(flipped_[i / 8] = best);
    }
  }

  /// The largest magnitude of a sub-block.
  float extreme(size_t sub) const {
    float most = 0;
    for (size_t i = sub * format_.sub_size; i < (sub + 1) * format_.sub_size; ++i)
      most = larger(most, __builtin_fabsf(x_[i]));
    return most;
  }
  const uint8_t* signs() const { return signs_; }

 private:
  static float delta_of(size_t delta) { return kDeltas == 1 ? 0.0f : delta == 0 ? 1.0f : -1.0f; }
  static size_t table_of(size_t weight, size_t delta) { return weight / kDims * kDeltas + delta; }

  void flip(size_t i) {
    signs_[i / 8] = static_cast<uint8_t>(signs_[i / 8] ^ (1 << (i % 8)));
    x_[i] = -x_[i];
    for (size_t l = 0; l < kStride; ++l) {
      float& product = xq_[table_of(i, 0)][i % kDims * kStride + l];
      product = -product;
    }
  }

  /// The level that each weight is near to, taking them for even.
  SHOEHORN_MEMBER void round_to_levels(size_t sub, float scale, size_t delta, uint8_t* out) const {
    const float per_level = 1.0f / (scale * format_.step), lowest = (format_.lowest + delta_of(delta)) / format_.step;
    const Floats zero = splat(0), last = splat(static_cast<float>(format_.n_levels - 1));
    for (size_t i = 0; i < format_.sub_size; i += kWidth) {
      const Floats level = rounded(clamped(load(x_ + sub * format_.sub_size + i) * per_level - lowest, zero, last));
      store_bytes_of(out + i, (Ints)(level + kRounder));
    }
  }

  /// The number whose digits, base n_levels, are the first kDims bytes.
  SHOEHORN_MEMBER size_t number_of(const uint8_t* digits) const {
    uint64_t u = 0;
    __builtin_memcpy(&u, digits, kDims);
    const uint64_t base = format_.n_levels;
    u = (u & 0x00ff00ff00ff00ff) + base * ((u >> 8) & 0x00ff00ff00ff00ff);
    u = (u & 0x0000ffff0000ffff) + base * base * ((u >> 16) & 0x0000ffff0000ffff);
    return (u & 0xffffffff) + base * base * base * base * (u >> 32);
  }

  SHOEHORN_MEMBER uint32_t choose_entry(size_t weight, float scale, size_t delta, const uint8_t* nearest,
                                        CodebookSums& sums) const {
    const float* xq = xq_[table_of(weight, delta)];
    const float* qq = qq_[table_of(weight, delta)];
    alignas(64) float gain[kTable];
    for (size_t i = 0; i < kTable; i += kWidth)
      store(gain + i, (2 * scale) * load(xq + i) - (scale * scale) * load(qq + i));
    const uint32_t* near = near_ + kNearEntries * number_of(nearest);
    PerLane gains;
    for (size_t g = 0; g < kSearchLanes; g += kWidth) {
      Ints levels;
      __builtin_memcpy(&levels, near + g, sizeof levels);
      Floats of[kDims];
#pragma GCC unroll 8
      for (size_t i = 0; i < kDims; ++i)
        of[i] = look_up<kStride>(gain + i * kStride, levels >> static_cast<int>(kBits * i));
      Floats sum = (of[0] + of[1]) + (of[2] + of[3]);
      if constexpr (kDims == 8) sum += (of[4] + of[5]) + (of[6] + of[7]);
      gains.set(g, sum);
    }
    const uint32_t entry = near[largest_lane(gains)];
    CodebookSums own[2];
#pragma GCC unroll 8
    for (size_t i = 0; i < kDims; ++i) {
      const size_t at = i * kStride + ((entry >> (kBits * i)) & (kStride - 1));
      own[i % 2].add({xq[at], qq[at]});
    }
    sums.add(own[0]);
    sums.add(own[1]);
    return entry;
  }

  const CodebookFormat& format_;
  const uint32_t* near_;
  alignas(64) float x_[kMaxBlock], wx_[kMaxBlock];  // magnitudes, negative where the sign is flipped; times the weight
  alignas(64) float xq_[kEntries * kDeltas][kTable];  // weight * x * level of an entry's weights
  alignas(64) float qq_[kEntries * kDeltas][kTable];  // weight * level^2
  uint8_t signs_[kMaxBlock / 8] = {};
  bool odd_[kMaxBlock / 8] = {};
  size_t flipped_[kMaxBlock / 8] = {};
};

constexpr size_t kCodebookTrials = 24;

/// What the trials found: sums[s][t] of sub-block s, and the best scale of each.
struct CodebookTrials {
  CodebookSums sums[16][kCodebookTrials];
  float wanted[16];
};

template <class Block>
SHOEHORN_INLINE void try_scales(const Block& block, const CodebookFormat& format, CodebookTrials& trials) {
  constexpr size_t kPolish = 3;
  CodebookEntries entries;
  for (size_t s = 0; s < format.n_sub; ++s) {
    const float extreme = block.extreme(s);
    float best_gain = -1, best_scale = 0;
    for (size_t t = 0; t < kCodebookTrials; ++t) {
      CodebookSums& sums = trials.sums[s][t];
      sums = {};
      // The first is for weights that are all alike, which the lowest level gives exactly; the last polish the best.
      const float part = static_cast<float>(t - 1) / static_cast<float>(kCodebookTrials - kPolish - 2);
      const float reach = t == 0 ? __builtin_fabsf(format.lowest) + (format.delta_size == 0 ? 0.0f : 1.0f)
                                 : format.first_reach + part * (format.last_reach - format.first_reach);
      const float scale = t < kCodebookTrials - kPolish ? extreme / reach : best_scale;
      if (!(scale > 1e-20f)) continue;
      sums = block.choose(s, scale, entries);
      if (!(sums.qq > 0) || !(sums.xq > 0)) continue;
      const float gain = sums.xq * sums.xq / sums.qq;
      if (gain > best_gain) {
        best_gain = gain;
        best_scale = sums.xq / sums.qq;
      }
    }
    trials.wanted[s] = best_scale;
  }
}

/// The factor, as stored, that loses least when every sub-block takes the best scale that it leaves and the best
/// entries tried.
SHOEHORN_INLINE float choose_factor(const CodebookTrials& trials, const CodebookFormat& format, float unit,
                                    float inverse_unit) {
  constexpr size_t kFactors = 64;
  float most = 0;
  for (size_t s = 0; s < format.n_sub; ++s) most = larger(most, trials.wanted[s]);
  const float highest = static_cast<float>(2 * format.scale_hi + 1);
  alignas(64) float factor[kFactors], gain[kFactors];
  for (size_t k = 0; k < kFactors; ++k) {
    // The largest scale at a tenth above the highest integer to half of it.
    factor[k] = most / (format.factor * highest * (1.1f - 0.6f / (kFactors - 1) * static_cast<float>(k)));
  }
  for (size_t k = 0; k < kFactors; k += kWidth) {
    const Floats stored = stored_scale(load(factor + k), splat(unit), splat(inverse_unit)),
                 step = stored * format.factor;
    const Floats per_step = reciprocal(step), last = splat(static_cast<float>(format.scale_hi));
    Floats total = splat(0);
    for (size_t s = 0; s < format.n_sub; ++s) {
      const Floats low = rounded(clamped((trials.wanted[s] * per_step - 1.0f) * 0.5f - 0.5f, splat(0), last));
      const Floats lower = step * (2 * low + 1), upper = step * (2 * min_of(low + 1.0f, last) + 1);
      Floats best = splat(-__builtin_inff());
      for (const CodebookSums& sums : trials.sums[s]) {
        best = max_of(best, lower * (2 * sums.xq - lower * sums.qq));
        best = max_of(best, upper * (2 * sums.xq - upper * sums.qq));
      }
      total += best;
    }
    store(factor + k, stored);
    store(gain + k, total);
  }
  size_t best = 0;
  for (size_t k = 1; k < kFactors; ++k) best = gain[k] > gain[best] ? k : best;
  return factor[best];
}

/// Factor and scales of a superblock.
struct CodebookScales {
  float d = 0;
  uint8_t scale[16] = {};
};

/// In turn: scales and entries for the factor, the factor for the scales and entries.
template <class Block>
SHOEHORN_INLINE CodebookScales improve_scales(const Block& block, const CodebookFormat& format, CodebookTrials& trials,
                                              float d, float unit, float inverse_unit) {
  CodebookScales best;
  float best_gain = -__builtin_inff();
  CodebookEntries entries;
  for (int round = 0; round < 3; ++round) {
    CodebookScales scales{d};
    float gain = 0, xq = 0, qq = 0;
    for (size_t s = 0; s < format.n_sub; ++s) {
      const float ideal = 0.5f * (trials.wanted[s] / (d * format.factor) - 1.0f);
      const float last = static_cast<float>(format.scale_hi);
      const int centre = static_cast<int>(ideal > 0 ? (ideal < last ? ideal + 0.5f : last) : 0);
      float best_of_sub = -__builtin_inff();
      CodebookSums best_sums;
      int best_scale = centre;
      for (int scale = centre > 0 ? centre - 1 : 0; scale <= centre + 1 && scale <= format.scale_hi; ++scale) {
        const float step = d * static_cast<float>(2 * scale + 1) * format.factor;
        const CodebookSums sums = block.choose(s, step, entries);
        if (sums.gain_of(step) > best_of_sub) {
          best_of_sub = sums.gain_of(step);
          best_sums = sums;
          best_scale = scale;
        }
      }
      const float multiple = static_cast<float>(2 * best_scale + 1) * format.factor;
      gain += best_of_sub;
      xq += multiple * best_sums.xq;
      qq += multiple * multiple * best_sums.qq;
      if (best_sums.xq > 0) trials.wanted[s] = best_sums.xq / best_sums.qq;
      scales.scale[s] = static_cast<uint8_t>(best_scale);
    }
    if (!(gain > best_gain)) break;
    best_gain = gain;
    best = scales;
    d = stored_scale(splat(xq > 0 ? xq / qq : 0), splat(unit), splat(inverse_unit))[0];
    if (d == best.d || d == 0) break;
  }
  return best;
}

/// The superblock whose first sub-block is in lane first_lane.
template <size_t kDims, size_t kDeltas>
SHOEHORN_INLINE void search_block(const Batch& batch, size_t first_lane, const CodebookFormat& format,
                                  CodebookResult& out) {
  const float unit = batch.unit.at[first_lane], inverse_unit = batch.inverse_unit.at[first_lane];
  out = {};
  out.zero = inverse_unit == 0;
  if (out.zero) return;
  CodebookBlock<kDims, kDeltas> block(batch, first_lane, format);
  CodebookTrials trials;
  try_scales(block, format, trials);
  const float d = choose_factor(trials, format, unit, inverse_unit);
  const CodebookScales scales = improve_scales(block, format, trials, d, unit, inverse_unit);
  out.d = stored_bits(scales.d, unit);
  for (size_t s = 0; s < format.n_sub; ++s) {
    out.scale[s] = scales.scale[s];
    const float step = scales.d * static_cast<float>(2 * scales.scale[s] + 1) * format.factor;
    block.choose_flips(s, step);
    CodebookEntries entries;
    block.choose(s, step, entries);
    for (size_t e = 0; e < format.sub_size / kDims; ++e) out.entry[s * format.sub_size / kDims + e] = entries.entry[e];
    for (size_t e = 0; kDeltas == 2 && e < format.sub_size / 8; ++e)
      out.down[s * format.sub_size / 8 + e] = entries.down[e];
  }
  __builtin_memcpy(out.signs, block.signs(), sizeof out.signs);
}

}  // namespace
}  // namespace shoehorn::quant
