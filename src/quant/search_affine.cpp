#include <algorithm>
#include <cmath>

#include "quant/lanes.h"
#include "quant/search.h"

namespace shoehorn::quant {
namespace {

/// Sums over a sub-block that do not depend on the codes.
struct Fixed {
  float w = 0, x = 0, xx = 0;  ///< sum w, sum w x, sum w x^2
};

/// Sums over a sub-block with codes q.
struct Sums {
  float q = 0, qq = 0, xq = 0;  ///< sum w q, sum w q^2, sum w x q
};

/// sum w (x - scale q + min)^2
float error_of(const Fixed& f, const Sums& s, float scale, float min) {
  return f.xx + scale * (scale * s.qq - 2 * s.xq) + min * (min * f.w + 2 * f.x - 2 * scale * s.q);
}

Fixed fixed_sums(const float* x, const float* w, size_t n) {
  Lanes sw = splat(0), sx = splat(0), sxx = splat(0);
  for (size_t i = 0; i < n; i += kLanes) {
    const Lanes wi = load_lanes(w + i), wx = wi * load_lanes(x + i);
    sw += wi;
    sx += wx;
    sxx += wx * load_lanes(x + i);
  }
  return {sum_lanes(sw), sum_lanes(sx), sum_lanes(sxx)};
}

Lanes codes(Lanes x, Lanes inverse_scale, Lanes min, float hi) {
  return round_lanes(clamp_lanes((x + min) * inverse_scale, 0.0f, hi));
}

/// Sums with the codes nearest to (x + min) / scale.
Sums round_against(const float* x, const float* w, size_t n, float inverse_scale, float min, float hi) {
  Lanes sq = splat(0), sqq = splat(0), sxq = splat(0);
  const Lanes inverse = splat(inverse_scale), m = splat(min);
  for (size_t i = 0; i < n; i += kLanes) {
    const Lanes xi = load_lanes(x + i);
    const Lanes q = codes(xi, inverse, m, hi);
    const Lanes wq = load_lanes(w + i) * q;
    sq += wq;
    sqq += wq * q;
    sxq += wq * xi;
  }
  return {sum_lanes(sq), sum_lanes(sqq), sum_lanes(sxq)};
}

/// 0 for a scale so small that its reciprocal could overflow a product.
float reciprocal(float scale) { return scale > 1e-37f ? 1.0f / scale : 0.0f; }

struct Fit {
  float scale = 0, min = 0;
  float error = 0;
};

/// The best scale >= 0 and min for given codes; min >= 0 too unless any_min.
Fit refit(const Fixed& f, const Sums& s, bool any_min) {
  const float determinant = f.w * s.qq - s.q * s.q;
  Fit fit;
  if (determinant > 1e-7f * f.w * s.qq) {
    fit.scale = (f.w * s.xq - f.x * s.q) / determinant;
    fit.min = (s.q * s.xq - s.qq * f.x) / determinant;
  } else {
    fit.min = -f.x / f.w;
  }
  if (!any_min && fit.min < 0) {
    fit.min = 0;
    fit.scale = s.qq > 0 ? s.xq / s.qq : 0.0f;
  }
  if (fit.scale < 0) {
    fit.scale = 0;
    fit.min = any_min ? -f.x / f.w : std::max(-f.x / f.w, 0.0f);
  }
  fit.error = error_of(f, s, fit.scale, fit.min);
  return fit;
}

Fit fit_affine(const float* x, const float* w, size_t n, const Fixed& fixed, const AffineFormat& format) {
  const bool any_min = format.scale_hi == 1;
  const float hi = static_cast<float>(format.hi);
  float least = x[0], most = x[0];
  for (size_t i = 1; i < n; ++i) {
    least = std::min(least, x[i]);
    most = std::max(most, x[i]);
  }
  if (!any_min) {
    least = std::min(least, 0.0f);
    most = std::max(most, least);
  }
  Fit best = refit(fixed, Sums{}, any_min);  // a scale of zero: all weights at -min
  const auto try_point = [&](float inverse_scale, float min) {
    const Fit fit = refit(fixed, round_against(x, w, n, inverse_scale, min, hi), any_min);
    if (fit.error < best.error) {
      best = fit;
      return true;
    }
    return false;
  };
  const float range = most - least;
  if (!(range > 1e-20f)) return best;
  for (float reach = hi - format.shrink; reach <= hi + format.grow; reach += format.step)
    try_point(reach / range, -least);
  for (int polish = 0; polish < 4 && best.scale > 0; ++polish) {
    if (!try_point(1.0f / best.scale, best.min)) break;
  }
  return best;
}

/// What a sub-block stores, and the sums of its codes.
struct Choice {
  int scale = 0, min = 0;
  Sums sums;
  float error = 0;
};

struct Factors {
  float d, dmin;  ///< as stored
};

int nearest_integer(float value, float factor, int lo, int hi) {
  if (factor == 0) return lo;
  return static_cast<int>(std::lround(std::clamp(value / factor, static_cast<float>(lo), static_cast<float>(hi))));
}

/// The best integers near the wanted scale and min, by true error.
Choice choose(const float* x, const float* w, size_t n, const Fixed& fixed, const Fit& wanted, Factors factors,
              const AffineFormat& format) {
  const int int_lo = format.scale_hi == 1 ? 1 : 0;
  const float hi = static_cast<float>(format.hi);
  const int centre = nearest_integer(wanted.scale, factors.d, int_lo, format.scale_hi);
  Choice best;
  bool first = true;
  for (int scale = std::max(centre - 1, int_lo); scale <= std::min(centre + 1, format.scale_hi); ++scale) {
    const float s = factors.d * static_cast<float>(scale);
    int min = nearest_integer(wanted.min, factors.dmin, int_lo, format.scale_hi);
    // The best min moves with the codes and the codes with the min: two looks settle nearly always.
    for (int look = 0; look < 3; ++look) {
      const float m = factors.dmin * static_cast<float>(min);
      const Sums sums = round_against(x, w, n, reciprocal(s), m, hi);
      const float error = error_of(fixed, sums, s, m);
      if (first || error < best.error) best = {scale, min, sums, error};
      first = false;
      const int better = nearest_integer((s * sums.q - fixed.x) / fixed.w, factors.dmin, int_lo, format.scale_hi);
      if (better == min) break;
      min = better;
    }
  }
  return best;
}

/// Least squares of both factors at once over all sub-blocks, with the integers and codes as chosen.
void refit_factors(const Choice* choice, const Fixed* fixed, size_t n_sub, bool any_min, float& d, float& dmin) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;  // a = scale q, b = min, x = d a - dmin b
  for (size_t s = 0; s < n_sub; ++s) {
    const double scale = choice[s].scale, min = choice[s].min;
    aa += scale * scale * static_cast<double>(choice[s].sums.qq);
    ab += scale * min * static_cast<double>(choice[s].sums.q);
    bb += min * min * static_cast<double>(fixed[s].w);
    xa += scale * static_cast<double>(choice[s].sums.xq);
    xb += min * static_cast<double>(fixed[s].x);
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-9 * aa * bb) {
    d = static_cast<float>((bb * xa - ab * xb) / determinant);
    dmin = static_cast<float>((ab * xa - aa * xb) / determinant);
  } else if (aa > 0) {
    d = static_cast<float>(xa / aa);
  }
  d = std::max(d, 0.0f);
  if (!any_min) dmin = std::max(dmin, 0.0f);
}

}  // namespace

void search_affine(const SearchBlock& block, const AffineFormat& format, AffineResult& out) {
  const size_t n_sub = format.n_sub, size = format.sub_size;
  const bool any_min = format.scale_hi == 1;
  const float hi = static_cast<float>(format.hi);
  Fixed fixed[16];
  Fit wanted[16];
  for (size_t s = 0; s < n_sub; ++s) {
    const float *x = block.x + s * size, *w = block.w + s * size;
    fixed[s] = fixed_sums(x, w, size);
    wanted[s] = fit_affine(x, w, size, fixed[s], format);
  }

  float d = wanted[0].scale, dmin = wanted[0].min;
  if (!any_min) {
    SubBlockValues scales, mins;
    for (size_t s = 0; s < n_sub; ++s) {
      scales.value[s] = wanted[s].scale;
      mins.value[s] = wanted[s].min;
      scales.weight[s] = mins.weight[s] = fixed[s].w;
    }
    d = fit_factor(scales, 0, format.scale_hi, block.unit);
    dmin = fit_factor(mins, 0, format.scale_hi, block.unit);
  }

  Choice choice[16];
  float best_error = 0;
  for (int round = 0; round < 3; ++round) {
    Factors stored;
    const uint16_t d_bits = to_stored_scale(d, block.unit, stored.d);
    const uint16_t dmin_bits = to_stored(dmin, block.unit, stored.dmin);
    Choice tried[16];
    float error = 0;
    for (size_t s = 0; s < n_sub; ++s) {
      tried[s] = choose(block.x + s * size, block.w + s * size, size, fixed[s], wanted[s], stored, format);
      error += tried[s].error;
    }
    if (round > 0 && error >= best_error) break;
    best_error = error;
    out.d = d_bits;
    out.dmin = dmin_bits;
    std::copy_n(tried, n_sub, choice);
    refit_factors(choice, fixed, n_sub, any_min, d, dmin);
    for (size_t s = 0; s < n_sub; ++s) wanted[s] = refit(fixed[s], choice[s].sums, any_min);
  }

  const float stored_d = fp16_to_fp32(out.d) / block.unit, stored_dmin = fp16_to_fp32(out.dmin) / block.unit;
  for (size_t s = 0; s < n_sub; ++s) {
    out.scale[s] = static_cast<uint8_t>(choice[s].scale);
    out.min[s] = static_cast<uint8_t>(choice[s].min);
    const Lanes inverse = splat(reciprocal(stored_d * static_cast<float>(choice[s].scale)));
    const Lanes min = splat(stored_dmin * static_cast<float>(choice[s].min));
    for (size_t i = s * size; i < (s + 1) * size; i += kLanes) {
      const Lanes q = codes(load_lanes(block.x + i), inverse, min, hi);
      for (size_t k = 0; k < kLanes; ++k) out.code[i + k] = static_cast<uint8_t>(q[k]);
    }
  }
}

}  // namespace shoehorn::quant
