// The search of formats without a min.
#pragma once

#include "quant/search_batch.inl"
#include "quant/search_levels.inl"

namespace shoehorn::quant {
namespace {

/// With q = the levels nearest to x / scale: the sums that say how well any scale does with these levels.
struct SymmetricSums {
  Floats xq, qq;  ///< sum w x q, sum w q^2

  /// The best scale for these levels.
  SHOEHORN_MEMBER Floats scale() const { return ratio(xq, qq); }
  /// sum w x^2 - sum w (x - s q)^2
  SHOEHORN_MEMBER Floats gain_of(Floats s) const { return s * (2 * xq - s * qq); }
};

/// Sums with the levels nearest to x / scale, for several scales at once.
template <size_t kCount, class Levels>
SHOEHORN_INLINE void round_against(const Columns& c, const Levels& levels, const Floats (&inverse_scale)[kCount],
                                   SymmetricSums (&sums)[kCount]) {
#pragma GCC unroll 4
  for (size_t k = 0; k < kCount; ++k) sums[k] = {splat(0), splat(0)};
  for (size_t i = 0; i < c.size; ++i) {
    const Floats x = load(c.x + i * kSearchLanes), w = load(c.w + i * kSearchLanes);
#pragma GCC unroll 4
    for (size_t k = 0; k < kCount; ++k) {
      const Floats q = levels.nearest(x * inverse_scale[k]), wq = w * q;
      sums[k].xq += wq * x;
      sums[k].qq += wq * q;
    }
  }
}

/// Takes over the sums, lane by lane, with which the best scale gains more: xq^2 / qq.
SHOEHORN_INLINE Mask keep_better(const SymmetricSums& sums, SymmetricSums& best) {
  const Mask better = less(best.xq * best.xq * sums.qq, sums.xq * sums.xq * best.qq);
  best.xq = pick(better, sums.xq, best.xq);
  best.qq = pick(better, sums.qq, best.qq);
  return better;
}

/// The sums of the best scale per sub-block, with nothing rounded but the levels.
template <class Levels>
SHOEHORN_INLINE SymmetricSums fit_scale(const Columns& c, const Levels& levels, const SymmetricFormat& format) {
  Floats least = splat(0), most = splat(0);
  for (size_t i = 0; i < c.size; ++i) {
    const Floats x = load(c.x + i * kSearchLanes);
    least = min_of(least, x);
    most = max_of(most, x);
  }
  const Floats extreme = pick(less(most, -least), least, most);
  const Floats inverse_extreme = pick(less(splat(1e-20f), magnitude(extreme)), reciprocal(extreme), splat(0));

  // Nothing gained with one level: any gain is better.
  SymmetricSums best{splat(0), splat(1)};
  constexpr int kAtOnce = 3;
  const int n_trials = static_cast<int>((format.shrink + format.grow) / format.step + 0.01f) + 1;
  // Levels reach further down than up, or the other way round: try the extreme weight at either end.
  for (const int end : {format.lo, format.hi}) {
    const float sign = end < 0 ? -1.0f : 1.0f, first = __builtin_fabsf(static_cast<float>(end)) - format.shrink;
    for (int t = 0; t < n_trials; t += kAtOnce) {
      Floats inverse[kAtOnce];
      SymmetricSums sums[kAtOnce];
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k) {
        inverse[k] = sign * (first + format.step * static_cast<float>(t + k < n_trials ? t + k : t)) * inverse_extreme;
      }
      round_against(c, levels, inverse, sums);
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k) keep_better(sums[k], best);
    }
  }
  for (int polish = 0; polish < 4; ++polish) {
    const Floats inverse[1] = {reciprocal(best.scale())};
    SymmetricSums sums[1];
    round_against(c, levels, inverse, sums);
    if (!any(keep_better(sums[0], best))) break;
  }
  return best;
}

/// The integer scale of a sub-block, and the sums of the levels rounded against d times it.
struct SymmetricChoice {
  Floats scale;
  SymmetricSums sums;
  Floats gain;
};

/// The best integer scale near wanted / d, by true error; d as stored.
template <class Levels>
SHOEHORN_INLINE SymmetricChoice choose_scale(const Columns& c, const Levels& levels, Floats wanted, Floats d,
                                             const SymmetricFormat& format) {
  if (format.scale_lo == format.scale_hi) {
    const Floats inverse[1] = {reciprocal(d)};
    SymmetricSums sums[1];
    round_against(c, levels, inverse, sums);
    return {splat(1), sums[0], sums[0].gain_of(d)};
  }
  const Floats lo = splat(static_cast<float>(format.scale_lo)), hi = splat(static_cast<float>(format.scale_hi));
  const Floats centre = rounded(clamped(wanted * reciprocal(d), lo, hi));
  const Floats scale[3] = {max_of(centre - 1.0f, lo), centre, min_of(centre + 1.0f, hi)};
  Floats inverse[3];
  SymmetricSums sums[3];
#pragma GCC unroll 3
  for (size_t k = 0; k < 3; ++k) inverse[k] = reciprocal(d * scale[k]);
  round_against(c, levels, inverse, sums);
  SymmetricChoice best{scale[0], sums[0], sums[0].gain_of(d * scale[0])};
#pragma GCC unroll 2
  for (size_t k = 1; k < 3; ++k) {
    const Floats gain = sums[k].gain_of(d * scale[k]);
    const Mask better = less(best.gain, gain);
    best.scale = pick(better, scale[k], best.scale);
    best.sums.xq = pick(better, sums[k].xq, best.sums.xq);
    best.sums.qq = pick(better, sums[k].qq, best.sums.qq);
    best.gain = pick(better, gain, best.gain);
  }
  return best;
}

/// All that is known of the sub-blocks while the factor is being improved.
struct SymmetricState {
  PerLane wanted;             ///< scale of each sub-block
  PerLane d;                  ///< to be tried
  PerLane best_d, best_gain;  ///< the best so far, as stored, and the gain of the superblock
  PerLane scale;              ///< integers of the best
};

/// One round: rounds the factor as it is stored, chooses the integers for it, keeps what improves a superblock, and finds
/// the factor and wanted values that suit it still better by least squares. False when nothing improved.
template <class Levels>
SHOEHORN_INLINE bool improve(const Batch& batch, const Levels& levels, const SymmetricFormat& format,
                             SymmetricState& state) {
  PerLane stored_d, scale, wanted, gain, xq, qq;
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    stored_d.set(g, stored_scale(state.d.from(g), batch.unit.from(g), batch.inverse_unit.from(g)));
    const SymmetricChoice c = choose_scale(columns(batch, g), levels, state.wanted.from(g), stored_d.from(g), format);
    scale.set(g, c.scale);
    wanted.set(g, c.sums.scale());
    gain.set(g, c.gain);
    xq.set(g, c.scale * c.sums.xq);
    qq.set(g, c.scale * c.scale * c.sums.qq);
  }
  for (PerLane* sum : {&gain, &xq, &qq}) sum_over_blocks(*sum, batch.n_sub);

  bool improved = false;
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    const Mask better = less(state.best_gain.from(g), gain.from(g));
    improved |= any(better);
    const auto keep = [&](PerLane& kept, Floats value) { kept.set(g, pick(better, value, kept.from(g))); };
    keep(state.best_gain, gain.from(g));
    keep(state.best_d, stored_d.from(g));
    keep(state.scale, scale.from(g));
    keep(state.wanted, wanted.from(g));
    keep(state.d, ratio(xq.from(g), qq.from(g)));
  }
  return improved;
}

template <class Levels>
SHOEHORN_INLINE void search(const Batch& batch, const Levels& levels, const SymmetricFormat& format,
                            SymmetricState& state) {
  PerLane weight;
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    const SymmetricSums best = fit_scale(columns(batch, g), levels, format);
    state.wanted.set(g, best.scale());
    weight.set(g, best.qq);
    state.best_gain.set(g, splat(-1));
  }
  state.d = state.wanted;
  // The scales are to be d times integers: the same question, one floor up.
  if (batch.n_sub > 1) state.d = fit_factors(batch, state.wanted, weight, format.scale_lo, format.scale_hi);
  for (int round = 0; round < 3; ++round) {
    if (!improve(batch, levels, format, state)) break;
  }
}

/// in: 16 sub-blocks, as the batch was made from.
template <class Levels>
SHOEHORN_INLINE void write_results(const float* in, const Batch& batch, const Levels& levels,
                                   const SymmetricState& state, size_t n_blocks, SymmetricResult* out) {
  for (size_t b = 0; b < n_blocks; ++b, ++out) {
    const size_t first = b * batch.n_sub;
    out->zero = batch.inverse_unit.at[first] == 0;
    if (out->zero) continue;
    const float d = state.best_d.at[first];
    out->d = stored_bits(d, batch.unit.at[first]);
    for (size_t s = 0; s < batch.n_sub; ++s) {
      out->scale[s] = static_cast<int8_t>(state.scale.at[first + s]);
      const Floats inverse = reciprocal(splat(d * state.scale.at[first + s]));
      const Floats inverse_unit = splat(batch.inverse_unit.at[first]);
      for (size_t i = 0; i < batch.size; i += kWidth) {
        const Floats x = load(in + (first + s) * batch.size + i) * inverse_unit;
        store_bytes_of(out->code + s * batch.size + i, levels.code(x * inverse));
      }
    }
  }
}

template <class Levels>
SHOEHORN_INLINE void search_batch(const float* in, const Batch& batch, const Levels& levels,
                                  const SymmetricFormat& format, size_t n_blocks, SymmetricResult* out) {
  SymmetricState state;
  search(batch, levels, format, state);
  write_results(in, batch, levels, state, n_blocks, out);
}

}  // namespace
}  // namespace shoehorn::quant
