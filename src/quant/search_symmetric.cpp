#include <algorithm>
#include <cmath>

#include "quant/lanes.h"
#include "quant/search.h"

namespace shoehorn::quant {
namespace {

/// Levels lo..hi.
struct EvenLevels {
  float lo, hi;
  Lanes nearest(Lanes v) const { return round_lanes(clamp_lanes(v, lo, hi)); }
  uint8_t code(float level) const { return static_cast<uint8_t>(level - lo); }
};

/// The levels of a codebook. The nearest is found by walking up it: every midpoint that v exceeds adds a step.
struct CodebookLevels {
  float lo;
  float midpoint[15], rise[15];
  const int8_t* codebook;

  explicit CodebookLevels(const int8_t* levels) : lo(levels[0]), codebook(levels) {
    for (size_t i = 0; i < 15; ++i) {
      midpoint[i] = 0.5f * static_cast<float>(levels[i] + levels[i + 1]);
      rise[i] = static_cast<float>(levels[i + 1] - levels[i]);
    }
  }
  Lanes nearest(Lanes v) const {
    Lanes level = splat(lo);
    for (size_t i = 0; i < 15; ++i) level += v > splat(midpoint[i]) ? splat(rise[i]) : splat(0.0f);
    return level;
  }
  uint8_t code(float level) const {
    return static_cast<uint8_t>(std::lower_bound(codebook, codebook + 16, static_cast<int8_t>(level)) - codebook);
  }
};

/// With q = the levels nearest to x / scale: the sums that say how well any scale does with these levels.
struct Sums {
  float xq = 0;  ///< sum w x q
  float qq = 0;  ///< sum w q^2

  /// The best scale for these levels, and by how much it lowers sum w x^2.
  float scale() const { return qq > 0 ? xq / qq : 0.0f; }
  float gain() const { return qq > 0 ? xq * xq / qq : 0.0f; }
  /// sum w x^2 - sum w (x - s q)^2
  float gain_of(float s) const { return s * (2 * xq - s * qq); }
};

template <class Levels>
Sums round_against(const float* x, const float* w, size_t n, float inverse_scale, const Levels& levels) {
  Lanes xq = splat(0), qq = splat(0);
  const Lanes inverse = splat(inverse_scale);
  for (size_t i = 0; i < n; i += kLanes) {
    const Lanes xi = load_lanes(x + i);
    const Lanes q = levels.nearest(xi * inverse);
    const Lanes wq = load_lanes(w + i) * q;
    xq += wq * xi;
    qq += wq * q;
  }
  return {sum_lanes(xq), sum_lanes(qq)};
}

/// 0 for a scale so small that its reciprocal could overflow a product.
float reciprocal(float scale) { return std::fabs(scale) > 1e-37f ? 1.0f / scale : 0.0f; }

struct Fit {
  float scale = 0;
  Sums sums;
};

/// The scale of x[n] with the largest gain.
template <class Levels>
Fit fit_scale(const float* x, const float* w, size_t n, const Levels& levels, float lo, float hi, float shrink,
              float grow, float step) {
  float extreme = 0;
  for (size_t i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  Fit best;
  if (std::fabs(extreme) < 1e-20f) return best;
  float best_gain = 0;
  const auto try_inverse = [&](float inverse) {
    const Sums sums = round_against(x, w, n, inverse, levels);
    if (sums.gain() > best_gain) {
      best_gain = sums.gain();
      best = {sums.scale(), sums};
      return true;
    }
    return false;
  };
  // Levels reach further down than up, or the other way round: try the extreme weight at either end.
  for (const float end : {lo, hi}) {
    const float direction = end < 0 ? -1.0f : 1.0f;
    if (std::fabs(end) < 0.5f) continue;
    for (float reach = std::fabs(end) - shrink; reach <= std::fabs(end) + grow; reach += step) {
      try_inverse(direction * reach / extreme);
    }
  }
  for (int polish = 0; polish < 4; ++polish) {
    if (!try_inverse(reciprocal(best.scale))) break;
  }
  return best;
}

/// The integer scale of one sub-block, and the sums of the levels rounded against d times it.
struct Choice {
  int scale = 0;
  Sums sums;
};

/// The best integer scale near `wanted` / d, by true error.
template <class Levels>
Choice choose_scale(const float* x, const float* w, size_t n, const Levels& levels, float wanted, float d, int lo,
                    int hi) {
  Choice best;
  float best_gain = -1;
  const int centre =
      static_cast<int>(std::lround(std::clamp(wanted * reciprocal(d), static_cast<float>(lo), static_cast<float>(hi))));
  for (int scale = std::max(centre - 1, lo); scale <= std::min(centre + 1, hi); ++scale) {
    const float s = d * static_cast<float>(scale);
    const Sums sums = s != 0 ? round_against(x, w, n, reciprocal(s), levels) : Sums{};
    const float gain = sums.gain_of(s);
    if (gain > best_gain) {
      best_gain = gain;
      best = {scale, sums};
    }
  }
  return best;
}

template <class Levels>
void search(const SearchBlock& block, const SymmetricFormat& format, const Levels& levels, SymmetricResult& out) {
  const size_t n_sub = format.n_sub, size = format.sub_size;
  const float lo = static_cast<float>(format.lo), hi = static_cast<float>(format.hi);
  SubBlockValues scales;
  float* const scale = scales.value;
  for (size_t s = 0; s < n_sub; ++s) {
    const Fit fit = fit_scale(block.x + s * size, block.w + s * size, size, levels, lo, hi, format.shrink, format.grow,
                              format.step);
    scale[s] = fit.scale;
    scales.weight[s] = fit.sums.qq;
  }

  // The scales are to be d times integers: the same question, one floor up.
  float d = scale[0];
  const bool has_scales = format.scale_lo != format.scale_hi;
  if (has_scales) {
    d = fit_factor(scales, format.scale_lo, format.scale_hi, block.unit);
  }

  Choice choice[16];
  float best_gain = -1;
  for (int round = 0; round < 3; ++round) {
    Choice tried[16];
    float stored, gain = 0, xq = 0, qq = 0;
    const uint16_t bits = to_stored_scale(d, block.unit, stored);
    for (size_t s = 0; s < n_sub; ++s) {
      tried[s] = choose_scale(block.x + s * size, block.w + s * size, size, levels, has_scales ? scale[s] : stored,
                              stored, format.scale_lo, format.scale_hi);
      const float integer = static_cast<float>(tried[s].scale);
      gain += tried[s].sums.gain_of(stored * integer);
      xq += integer * tried[s].sums.xq;
      qq += integer * integer * tried[s].sums.qq;
      if (has_scales) scale[s] = tried[s].sums.scale();
    }
    if (gain <= best_gain) break;
    best_gain = gain;
    out.d = bits;
    std::copy_n(tried, n_sub, choice);
    d = qq > 0 ? xq / qq : 0.0f;
  }

  const float stored = fp16_to_fp32(out.d) / block.unit;
  for (size_t s = 0; s < n_sub; ++s) {
    out.scale[s] = static_cast<int8_t>(choice[s].scale);
    const Lanes inverse = splat(reciprocal(stored * static_cast<float>(choice[s].scale)));
    for (size_t i = s * size; i < (s + 1) * size; i += kLanes) {
      const Lanes level = levels.nearest(load_lanes(block.x + i) * inverse);
      for (size_t k = 0; k < kLanes; ++k) out.code[i + k] = levels.code(level[k]);
    }
  }
}

}  // namespace

void search_symmetric(const SearchBlock& block, const SymmetricFormat& format, SymmetricResult& out) {
  if (format.codebook != nullptr) {
    search(block, format, CodebookLevels(format.codebook), out);
  } else {
    search(block, format, EvenLevels{static_cast<float>(format.lo), static_cast<float>(format.hi)}, out);
  }
}

}  // namespace shoehorn::quant
