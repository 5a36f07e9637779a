// The steps on panels, compiled once for each instruction set as part of search.inl. Every lane is a row, and lanes
// never meet, so that the result is the same bits on every instruction set.
#pragma once

#include "quant/lanes.h"
#include "quant/panel.h"
#include "quant/search_batch.inl"
#include "quant/search_levels.inl"

namespace shoehorn::quant {
namespace {

/// kWidth of a panel's rows.
template <class Levels>
class PanelLanes {
 public:
  PanelLanes(const Grid& grid, const Levels& levels, Panel& panel, size_t first_lane)
      : grid_(grid), levels_(levels), panel_(panel), lane_(first_lane) {}

  SHOEHORN_MEMBER Floats scale(size_t sub) const { return at(panel_.d[sub / grid_.n_sub]) * at(panel_.scale[sub]); }
  SHOEHORN_MEMBER Floats min(size_t sub) const { return at(panel_.dmin[sub / grid_.n_sub]) * at(panel_.min[sub]); }
  SHOEHORN_MEMBER Floats nearest(Floats x, Floats inverse_scale, Floats min) const {
    return levels_.nearest((x + min) * inverse_scale);
  }

  void round(const float* factor, size_t stride, float* target, float* error) {
    for (size_t j = 0; j < panel_.n_columns; ++j) {
      const size_t sub = j / grid_.sub_size;
      const Floats s = scale(sub), m = min(sub), w = at(target, j);
      const Floats level = nearest(w, reciprocal(s), m);
      const float* u = factor + j * stride;
      const Floats e = (w - (s * level - m)) / u[j];
      set(panel_.level[j], level);
      store(error + j * kPanelRows + lane_, e);
      for (size_t k = j + 1; k < panel_.n_columns; ++k) add(target, k, -u[k] * e);
    }
  }

  void descend(const float* h, size_t stride, int sweeps, float* gradient) {
    const size_t n_sub = panel_.n_columns / grid_.sub_size;
    for (int sweep = 0; sweep < sweeps; ++sweep) {
      for (size_t sub = 0; sub < n_sub; ++sub) {
        change_codes(h, stride, sub, gradient);
        if (grid_.scale_lo != grid_.scale_hi) change_integers(h, stride, sub, gradient);
      }
      for (size_t block = 0; block < n_sub / grid_.n_sub; ++block) change_factors(h, stride, block, gradient);
    }
    for (size_t sub = 0; sub < n_sub; ++sub) change_codes(h, stride, sub, gradient);
  }

 private:
  SHOEHORN_MEMBER Floats at(const float (&row)[kPanelRows]) const { return load(row + lane_); }
  SHOEHORN_MEMBER Floats at(const float* rows, size_t j) const { return load(rows + j * kPanelRows + lane_); }
  SHOEHORN_MEMBER void set(float (&row)[kPanelRows], Floats v) { store(row + lane_, v); }
  SHOEHORN_MEMBER void add(float* rows, size_t j, Floats v) const {
    store(rows + j * kPanelRows + lane_, at(rows, j) + v);
  }

  /// v_j becomes v_j + change: what that does to the gradient of columns [begin, end).
  SHOEHORN_MEMBER void spread(const float* h_row, size_t begin, size_t end, Floats change, float* gradient) const {
    for (size_t k = begin; k < end; ++k) add(gradient, k, h_row[k] * change);
  }

  SHOEHORN_MEMBER void change_codes(const float* h, size_t stride, size_t sub, float* gradient) {
    const Floats s = scale(sub), m = min(sub), inverse = reciprocal(s), zero = splat(0);
    for (size_t j = sub * grid_.sub_size; j < (sub + 1) * grid_.sub_size; ++j) {
      const float* h_row = h + j * stride;
      const Floats before = at(panel_.level[j]);
      const Floats level = nearest(s * before - m - at(gradient, j) / h_row[j], inverse, m);
      const Floats change = s * (level - before);
      if (!any(less(zero, magnitude(change)))) continue;
      set(panel_.level[j], level);
      spread(h_row, 0, panel_.n_columns, change, gradient);
    }
  }

  /// Tries neighbours of the sub-block's integers, codes rounded anew for each with the errors made within the
  /// sub-block, and keeps the best of those that lower the error.
  void change_integers(const float* h, size_t stride, size_t sub, float* gradient) {
    const size_t begin = sub * grid_.sub_size, end = begin + grid_.sub_size;
    const Floats d = at(panel_.d[sub / grid_.n_sub]), dmin = at(panel_.dmin[sub / grid_.n_sub]);
    const Floats old_scale = at(panel_.scale[sub]), old_min = at(panel_.min[sub]);
    const Floats s = d * old_scale, m = dmin * old_min, zero = splat(0);
    const Floats lowest = splat(static_cast<float>(grid_.scale_lo)),
                 highest = splat(static_cast<float>(grid_.scale_hi));
    Floats best_gain = zero, best_scale = old_scale, best_min = old_min;
    Floats best_level[kMaxSub], level[kMaxSub], g[kMaxSub];
    for (size_t i = 0; i < grid_.sub_size; ++i) best_level[i] = at(panel_.level[begin + i]);

    static constexpr float kSteps[][2] = {{1, 0}, {-1, 0}, {1, 1}, {-1, -1}, {0, 1}, {0, -1}};
    const size_t n_steps = grid_.has_min ? std::size(kSteps) : 2;
    for (size_t t = 0; t < n_steps; ++t) {
      const Floats new_scale = clamped(old_scale + kSteps[t][0], lowest, highest);
      const Floats new_min = grid_.has_min ? clamped(old_min + kSteps[t][1], zero, highest) : old_min;
      const Floats ns = d * new_scale, nm = dmin * new_min, inverse = reciprocal(ns);
      for (size_t i = 0; i < grid_.sub_size; ++i) g[i] = at(gradient, begin + i);
      Floats gain = zero;
      for (size_t i = 0; i < grid_.sub_size; ++i) {
        const float* h_row = h + (begin + i) * stride;
        const Floats value = s * at(panel_.level[begin + i]) - m;
        level[i] = nearest(value - g[i] / h_row[begin + i], inverse, nm);
        const Floats change = ns * level[i] - nm - value;
        gain -= change * (2 * g[i] + h_row[begin + i] * change);
        for (size_t k = 0; k < grid_.sub_size; ++k) g[k] += h_row[begin + k] * change;
      }
      const Mask better = less(best_gain, gain);
      if (!any(better)) continue;
      best_gain = pick(better, gain, best_gain);
      best_scale = pick(better, new_scale, best_scale);
      best_min = pick(better, new_min, best_min);
      for (size_t i = 0; i < grid_.sub_size; ++i) best_level[i] = pick(better, level[i], best_level[i]);
    }
    if (!any(less(zero, best_gain))) return;
    set(panel_.scale[sub], best_scale);
    set(panel_.min[sub], best_min);
    const Floats ns = d * best_scale, nm = dmin * best_min;
    for (size_t j = begin; j < end; ++j) {
      const Floats change = (ns * best_level[j - begin] - nm) - (s * at(panel_.level[j]) - m);
      set(panel_.level[j], best_level[j - begin]);
      spread(h + j * stride, 0, panel_.n_columns, change, gradient);
    }
  }

  /// The least-squares factors of a block for its integers and codes, where their stored values lower the error.
  void change_factors(const float* h, size_t stride, size_t block, float* gradient) {
    const size_t begin = block * grid_.block_size(), end = begin + grid_.block_size();
    const Floats zero = splat(0), one = splat(1);
    const auto a = [&](size_t j) { return at(panel_.scale[j / grid_.sub_size]) * at(panel_.level[j]); };
    const auto b = [&](size_t j) { return at(panel_.min[j / grid_.sub_size]); };
    // v = d a - dmin b. Products with H, and with the gradient.
    Floats aa = zero, ab = zero, bb = zero, ga = zero, gb = zero;
    for (size_t j = begin; j < end; ++j) {
      const float* h_row = h + j * stride;
      Floats ha = zero, hb = zero;
      for (size_t k = begin; k < end; ++k) {
        ha += h_row[k] * a(k);
        if (grid_.has_min) hb += h_row[k] * b(k);
      }
      const Floats aj = a(j), bj = b(j), gj = at(gradient, j);
      aa += ha * aj;
      ab += ha * bj;
      bb += hb * bj;
      ga += gj * aj;
      gb += gj * bj;
    }
    const Floats d = at(panel_.d[block]), dmin = at(panel_.dmin[block]);
    // Minimum over (x, y) of 2 (x ga - y gb) + x^2 aa - 2 x y ab + y^2 bb.
    const Floats determinant = aa * bb - ab * ab;
    const Mask free = less(1e-4f * aa * bb, determinant);
    const Floats divisor = pick(free, determinant, one);
    Floats new_d = d + pick(free, (ab * gb - bb * ga) / divisor, -ratio(ga, aa));
    Floats new_dmin = grid_.has_min ? dmin + pick(free, (aa * gb - ab * ga) / divisor, zero) : zero;
    if (grid_.has_min) {
      new_d = max_of(new_d, zero);
      if (!grid_.any_min) new_dmin = max_of(new_dmin, zero);
    }
    const Floats stored_d = stored_scale(new_d, one, one), stored_dmin = stored_value(new_dmin, one, one);
    const Floats x = stored_d - d, y = stored_dmin - dmin;
    const Floats gain = 2 * (y * gb - x * ga) - (x * x * aa - 2 * x * y * ab + y * y * bb);
    const Mask better = less(zero, gain);
    if (!any(better)) return;
    set(panel_.d[block], pick(better, stored_d, d));
    set(panel_.dmin[block], pick(better, stored_dmin, dmin));
    const Floats dx = pick(better, x, zero), dy = pick(better, y, zero);
    for (size_t j = begin; j < end; ++j) spread(h + j * stride, 0, panel_.n_columns, dx * a(j) - dy * b(j), gradient);
  }

  const Grid& grid_;
  const Levels& levels_;
  Panel& panel_;
  const size_t lane_;
};

template <class Step>
SHOEHORN_INLINE void on_lanes(const Grid& grid, Panel& panel, Step step) {
  for (size_t first = 0; first < kPanelRows; first += kWidth) {
    if (grid.codebook != nullptr) {
      const CodebookLevels levels(grid.codebook);
      step(PanelLanes(grid, levels, panel, first));
    } else {
      const EvenLevels levels(grid.lo, grid.hi);
      step(PanelLanes(grid, levels, panel, first));
    }
  }
}

}  // namespace
}  // namespace shoehorn::quant
