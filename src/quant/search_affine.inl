// The search of formats with a min.
#pragma once

#include "quant/search_batch.inl"

namespace shoehorn::quant {
namespace {

/// Sums over a sub-block that do not depend on the codes.
struct AffineFixed {
  Floats w, x, xx;  ///< sum w, sum w x, sum w x^2
};

/// Sums over a sub-block with codes q.
struct AffineSums {
  Floats q, qq, xq;  ///< sum w q, sum w q^2, sum w x q
};

/// sum w (x - scale q + min)^2
SHOEHORN_INLINE Floats error_of(const AffineFixed& f, const AffineSums& s, Floats scale, Floats min) {
  return f.xx + scale * (scale * s.qq - 2 * s.xq) + min * (min * f.w + 2 * f.x - 2 * scale * s.q);
}

SHOEHORN_INLINE AffineFixed fixed_sums(const Columns& c) {
  AffineFixed f{splat(0), splat(0), splat(0)};
  for (size_t i = 0; i < c.size; ++i) {
    const Floats x = load(c.x + i * kSearchLanes), w = load(c.w + i * kSearchLanes), wx = w * x;
    f.w += w;
    f.x += wx;
    f.xx += wx * x;
  }
  return f;
}

/// Sums with the codes nearest to (x + min[k]) / scale, for several scales and mins at once. kAboveMin: no x + min[k] is
/// negative.
template <bool kAboveMin = false, size_t kCount>
SHOEHORN_INLINE void round_against(const Columns& c, const Floats (&inverse_scale)[kCount], const Floats (&min)[kCount],
                                   Floats hi, AffineSums (&sums)[kCount]) {
#pragma GCC unroll 4
  for (size_t k = 0; k < kCount; ++k) sums[k] = {splat(0), splat(0), splat(0)};
  const Floats zero = splat(0);
  for (size_t i = 0; i < c.size; ++i) {
    const Floats x = load(c.x + i * kSearchLanes), w = load(c.w + i * kSearchLanes);
#pragma GCC unroll 4
    for (size_t k = 0; k < kCount; ++k) {
      const Floats exact = (x + min[k]) * inverse_scale[k];
      const Floats q = rounded(min_of(kAboveMin ? exact : max_of(exact, zero), hi)), wq = w * q;
      sums[k].q += wq;
      sums[k].qq += wq * q;
      sums[k].xq += wq * x;
    }
  }
}

struct AffineFit {
  Floats scale, min, error;
};

/// The best scale >= 0 and min for given codes; min >= 0 too unless kAnyMin.
template <bool kAnyMin>
SHOEHORN_INLINE AffineFit refit(const AffineFixed& f, const AffineSums& s) {
  const Floats zero = splat(0), one = splat(1);
  const Floats determinant = f.w * s.qq - s.q * s.q;
  const Mask both_free = less(1e-7f * f.w * s.qq, determinant);
  Floats divisor = pick(both_free, determinant, one);
  Floats scale = pick(both_free, f.w * s.xq - f.x * s.q, zero);
  Floats min = pick(both_free, s.q * s.xq - s.qq * f.x, -f.x / f.w);
  if (!kAnyMin) {
    const Mask negative = less(min, zero), usable = both(negative, less(zero, s.qq));
    min = pick(negative, zero, min);
    scale = pick(negative, s.xq, scale);
    divisor = pick(negative, pick(usable, s.qq, one), divisor);
  }
  const Floats inverse = 1.0f / divisor;
  scale *= inverse;
  min *= inverse;
  const Mask falling = less(scale, zero);
  scale = pick(falling, zero, scale);
  min = pick(falling, kAnyMin ? -f.x / f.w : max_of(-f.x / f.w, zero), min);
  return {scale, min, error_of(f, s, scale, min)};
}

SHOEHORN_INLINE Mask keep_better(const AffineFit& fit, AffineFit& best) {
  const Mask better = less(fit.error, best.error);
  best.scale = pick(better, fit.scale, best.scale);
  best.min = pick(better, fit.min, best.min);
  best.error = pick(better, fit.error, best.error);
  return better;
}

/// The best scale and min per sub-block, with nothing rounded but the codes.
template <bool kAnyMin>
SHOEHORN_INLINE AffineFit fit_affine(const Columns& c, const AffineFixed& fixed, const AffineFormat& format) {
  const Floats zero = splat(0), hi = splat(static_cast<float>(format.hi));
  Floats least = load(c.x), most = least;
  for (size_t i = 1; i < c.size; ++i) {
    const Floats x = load(c.x + i * kSearchLanes);
    least = min_of(least, x);
    most = max_of(most, x);
  }
  if (!kAnyMin) {
    least = min_of(least, zero);
    most = max_of(most, least);
  }
  // Where all weights are equal every trial is the scale of zero that is tried first: all weights at -min.
  AffineFit best = refit<kAnyMin>(fixed, {zero, zero, zero});
  const Floats range = most - least;
  const Floats inverse_range = pick(less(splat(1e-20f), range), reciprocal(range), zero);

  constexpr int kAtOnce = kWidth == 16 ? 3 : 2;
  const float first = static_cast<float>(format.hi) - format.shrink;
  const int n_trials = static_cast<int>((format.shrink + format.grow) / format.step + 0.5f) + 1;
  for (int t = 0; t < n_trials; t += kAtOnce) {
    Floats inverse[kAtOnce], min[kAtOnce];
    AffineSums sums[kAtOnce];
#pragma GCC unroll 4
    for (int k = 0; k < kAtOnce; ++k) {
      inverse[k] = (first + format.step * static_cast<float>(t + k < n_trials ? t + k : t)) * inverse_range;
      min[k] = -least;
    }
    round_against<true>(c, inverse, min, hi, sums);
#pragma GCC unroll 4
    for (int k = 0; k < kAtOnce; ++k) keep_better(refit<kAnyMin>(fixed, sums[k]), best);
  }
  for (int polish = 0; polish < 2; ++polish) {
    const Floats inverse[1] = {reciprocal(best.scale)}, min[1] = {best.min};
    AffineSums sums[1];
    round_against(c, inverse, min, hi, sums);
    if (!any(keep_better(refit<kAnyMin>(fixed, sums[0]), best))) break;
  }
  return best;
}

/// What a sub-block stores, and the sums of its codes.
struct AffineChoice {
  Floats scale, min;  ///< integers
  AffineSums sums;
  Floats error;
};

/// The best integers near the wanted scale and min, by true error; d and dmin as stored.
template <bool kAnyMin>
SHOEHORN_INLINE AffineChoice choose(const Columns& c, const AffineFixed& fixed, Floats wanted_scale, Floats wanted_min,
                                    Floats d, Floats dmin, const AffineFormat& format) {
  const Floats hi = splat(static_cast<float>(format.hi)), zero = splat(0), one = splat(1);
  if constexpr (kAnyMin) {
    const Floats inverse[1] = {reciprocal(d)}, min[1] = {dmin};
    AffineSums only[1];
    round_against(c, inverse, min, hi, only);
    return {one, one, only[0], error_of(fixed, only[0], d, dmin)};
  }
  const Floats top = splat(static_cast<float>(format.scale_hi));
  const Floats inverse_dmin = reciprocal(dmin), inverse_w_dmin = inverse_dmin / fixed.w;
  const Floats centre = rounded(clamped(wanted_scale * reciprocal(d), zero, top));
  const Floats scale[3] = {max_of(centre - 1.0f, zero), centre, min_of(centre + 1.0f, top)};
  // The mean of the codes tells how the min follows the scale.
  const Floats mean_x = fixed.x / fixed.w, mean_q = ratio(wanted_min + mean_x, wanted_scale);
  Floats min[3], inverse[3];
#pragma GCC unroll 3
  for (size_t k = 0; k < 3; ++k) {
    inverse[k] = reciprocal(d * scale[k]);
    min[k] = rounded(clamped((d * scale[k] * mean_q - mean_x) * inverse_dmin, zero, top));
  }
  AffineChoice best{zero, zero, {zero, zero, zero}, splat(__builtin_inff())};
  AffineSums sums[3];
  // The best min moves with the codes and the codes with the min: a second look settles nearly always.
  for (int look = 0; look < 2; ++look) {
    Floats stored_min[3];
#pragma GCC unroll 3
    for (size_t k = 0; k < 3; ++k) stored_min[k] = dmin * min[k];
    round_against(c, inverse, stored_min, hi, sums);
    bool moved = false;
#pragma GCC unroll 3
    for (size_t k = 0; k < 3; ++k) {
      const Floats s = d * scale[k], error = error_of(fixed, sums[k], s, stored_min[k]);
      const Mask better = less(error, best.error);
      best.scale = pick(better, scale[k], best.scale);
      best.min = pick(better, min[k], best.min);
      best.sums.q = pick(better, sums[k].q, best.sums.q);
      best.sums.qq = pick(better, sums[k].qq, best.sums.qq);
      best.sums.xq = pick(better, sums[k].xq, best.sums.xq);
      best.error = pick(better, error, best.error);
      const Floats next = rounded(clamped((s * sums[k].q - fixed.x) * inverse_w_dmin, zero, top));
      moved |= any(less(zero, magnitude(next - min[k])));
      min[k] = next;
    }
    if (!moved) break;
  }
  return best;
}

/// All that is known of the sub-blocks while the factors are being improved.
struct AffineState {
  PerLane fixed_w, fixed_x, fixed_xx;
  PerLane wanted_scale, wanted_min;
  PerLane d, dmin;                            ///< to be tried
  PerLane best_d, best_dmin, best_error;      ///< the best so far, as stored, and the error of the superblock
  PerLane scale, min;                         ///< integers of the best

  AffineFixed fixed(size_t g) const { return {fixed_w.from(g), fixed_x.from(g), fixed_xx.from(g)}; }
};

/// One round: rounds the factors as they are stored, chooses the integers for them, keeps what improves a superblock, and
/// finds the factors and wanted values that suit it still better by least squares. False when nothing improved.
template <bool kAnyMin>
SHOEHORN_INLINE bool improve(const Batch& batch, const AffineFormat& format, AffineState& state) {
  PerLane stored_d, stored_dmin, scale, min, error, q, qq, xq;
  PerLane aa, ab, bb, xa, xb;  // a = scale q, b = min, x = d a - dmin b
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    const Floats unit = batch.unit.from(g), inverse_unit = batch.inverse_unit.from(g);
    stored_d.set(g, stored_scale(state.d.from(g), unit, inverse_unit));
    stored_dmin.set(g, stored_value(state.dmin.from(g), unit, inverse_unit));
    const AffineChoice c = choose<kAnyMin>(columns(batch, g), state.fixed(g), state.wanted_scale.from(g),
                                           state.wanted_min.from(g), stored_d.from(g), stored_dmin.from(g), format);
    scale.set(g, c.scale);
    min.set(g, c.min);
    error.set(g, c.error);
    q.set(g, c.sums.q);
    qq.set(g, c.sums.qq);
    xq.set(g, c.sums.xq);
    aa.set(g, c.scale * c.scale * c.sums.qq);
    ab.set(g, c.scale * c.min * c.sums.q);
    bb.set(g, c.min * c.min * state.fixed_w.from(g));
    xa.set(g, c.scale * c.sums.xq);
    xb.set(g, c.min * state.fixed_x.from(g));
  }
  for (PerLane* sum : {&error, &aa, &ab, &bb, &xa, &xb}) sum_over_blocks(*sum, batch.n_sub);

  bool improved = false;
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    const Mask better = less(error.from(g), state.best_error.from(g));
    improved |= any(better);
    const auto keep = [&](PerLane& kept, Floats value) { kept.set(g, pick(better, value, kept.from(g))); };
    keep(state.best_error, error.from(g));
    keep(state.best_d, stored_d.from(g));
    keep(state.best_dmin, stored_dmin.from(g));
    keep(state.scale, scale.from(g));
    keep(state.min, min.from(g));

    const Floats zero = splat(0), one = splat(1), d = state.d.from(g), dmin = state.dmin.from(g);
    const Floats a2 = aa.from(g), ab1 = ab.from(g), b2 = bb.from(g), xa1 = xa.from(g), xb1 = xb.from(g);
    const Floats determinant = a2 * b2 - ab1 * ab1;
    const Mask both_free = less(1e-5f * a2 * b2, determinant);
    const Floats divisor = pick(both_free, determinant, one);
    const Mask scaled = less(zero, a2);
    Floats next_d = pick(scaled, ratio(xa1, a2), d);
    next_d = max_of(pick(both_free, (b2 * xa1 - ab1 * xb1) / divisor, next_d), zero);
    Floats next_dmin = pick(both_free, (ab1 * xa1 - a2 * xb1) / divisor, dmin);
    if (!kAnyMin) next_dmin = max_of(next_dmin, zero);
    keep(state.d, next_d);
    keep(state.dmin, next_dmin);
    const AffineFit fit = refit<kAnyMin>(state.fixed(g), {q.from(g), qq.from(g), xq.from(g)});
    keep(state.wanted_scale, fit.scale);
    keep(state.wanted_min, fit.min);
  }
  return improved;
}

template <bool kAnyMin>
SHOEHORN_INLINE void search(const Batch& batch, const AffineFormat& format, AffineState& state) {
  for (size_t g = 0; g < kSearchLanes; g += kWidth) {
    const AffineFixed fixed = fixed_sums(columns(batch, g));
    const AffineFit fit = fit_affine<kAnyMin>(columns(batch, g), fixed, format);
    state.fixed_w.set(g, fixed.w);
    state.fixed_x.set(g, fixed.x);
    state.fixed_xx.set(g, fixed.xx);
    state.wanted_scale.set(g, fit.scale);
    state.wanted_min.set(g, fit.min);
    state.best_error.set(g, splat(__builtin_inff()));
  }
  state.d = state.wanted_scale;
  state.dmin = state.wanted_min;
  if (!kAnyMin) {
    state.d = fit_factors(batch, state.wanted_scale, state.fixed_w, 0, format.scale_hi);
    state.dmin = fit_factors(batch, state.wanted_min, state.fixed_w, 0, format.scale_hi);
  }
  for (int round = 0; round < 6; ++round) {
    if (!improve<kAnyMin>(batch, format, state)) break;
  }
}

/// in: 16 sub-blocks, as the batch was made from.
SHOEHORN_INLINE void write_results(const float* in, const Batch& batch, const AffineFormat& format,
                                   const AffineState& state, size_t n_blocks, AffineResult* out) {
  const Floats hi = splat(static_cast<float>(format.hi));
  for (size_t b = 0; b < n_blocks; ++b, ++out) {
    const size_t first = b * batch.n_sub;
    out->zero = batch.inverse_unit.at[first] == 0;
    if (out->zero) continue;
    const float d = state.best_d.at[first], dmin = state.best_dmin.at[first], unit = batch.unit.at[first];
    out->d = stored_bits(d, unit);
    out->dmin = stored_bits(dmin, unit);
    for (size_t s = 0; s < batch.n_sub; ++s) {
      out->scale[s] = static_cast<uint8_t>(state.scale.at[first + s]);
      out->min[s] = static_cast<uint8_t>(state.min.at[first + s]);
      const Floats inverse = reciprocal(splat(d * state.scale.at[first + s]));
      const Floats min = splat(dmin * state.min.at[first + s]), inverse_unit = splat(batch.inverse_unit.at[first]);
      for (size_t i = 0; i < batch.size; i += kWidth) {
        const Floats x = load(in + (first + s) * batch.size + i) * inverse_unit;
        store_bytes_of(out->code + s * batch.size + i, (Ints)(clamped((x + min) * inverse, splat(0), hi) + kRounder));
      }
    }
  }
}

}  // namespace
}  // namespace shoehorn::quant
