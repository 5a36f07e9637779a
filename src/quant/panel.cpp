#include "quant/panel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/float16.h"
#include "quant/search.h"

namespace shoehorn::quant {
namespace {

constexpr uint8_t kAnyCode = 0;

/// So large a share that a weight's own size vanishes beside it.
constexpr float kEqualShare = 1e6f;

uint8_t code_of(const Grid& grid, float level) {
  if (grid.codebook == nullptr) return static_cast<uint8_t>(static_cast<int>(level) - grid.lo);
  return static_cast<uint8_t>(std::find(grid.codebook, grid.codebook + 16, static_cast<int8_t>(level)) - grid.codebook);
}

float level_of(const Grid& grid, uint8_t code) {
  return static_cast<float>(grid.codebook == nullptr ? grid.lo + code : grid.codebook[code]);
}

/// One block of what was found, at its place in the panel.
template <class Result>
void put(const Grid& grid, const Result& result, size_t block, size_t row, Panel& panel) {
  constexpr bool kHasMin = requires { result.dmin; };
  panel.d[block][row] = result.zero ? 0 : fp16_to_fp32(result.d);
  panel.dmin[block][row] = 0;
  if constexpr (kHasMin) panel.dmin[block][row] = result.zero ? 0 : fp16_to_fp32(result.dmin);
  for (size_t s = 0; s < grid.n_sub; ++s) {
    const size_t sub = block * grid.n_sub + s;
    panel.scale[sub][row] = result.zero ? 1 : result.scale[s];
    panel.min[sub][row] = 0;
    if constexpr (kHasMin) panel.min[sub][row] = result.zero ? 1 : result.min[s];
  }
  for (size_t i = 0; i < grid.block_size(); ++i) {
    const size_t column = block * grid.block_size() + i;
    panel.level[column][row] = level_of(grid, result.zero ? kAnyCode : result.code[i]);
  }
}

template <class Result>
void get(const Grid& grid, const Panel& panel, size_t block, size_t row, Result& result) {
  constexpr bool kHasMin = requires { result.dmin; };
  result.zero = false;
  result.d = fp32_to_fp16(panel.d[block][row]);
  if constexpr (kHasMin) result.dmin = fp32_to_fp16(panel.dmin[block][row]);
  for (size_t s = 0; s < grid.n_sub; ++s) {
    const size_t sub = block * grid.n_sub + s;
    result.scale[s] = static_cast<std::remove_reference_t<decltype(result.scale[0])>>(panel.scale[sub][row]);
    if constexpr (kHasMin) result.min[s] = static_cast<uint8_t>(panel.min[sub][row]);
  }
  for (size_t i = 0; i < grid.block_size(); ++i) {
    result.code[i] = code_of(grid, panel.level[block * grid.block_size() + i][row]);
  }
}

template <class AnyFormat>
void search_rows(const Grid& grid, AnyFormat format, Search<AnyFormat> search, const float* w, const float* importance,
                 size_t n_columns, Panel& panel) {
  format.rms_share = kEqualShare;
  const size_t block_size = grid.block_size(), n_blocks = n_columns / block_size, at_once = kSearchLanes / format.n_sub;
  float row_weights[kPanelColumns];
  typename AnyFormat::Result results[kSearchLanes];
  for (size_t row = 0; row < kPanelRows; ++row) {
    for (size_t j = 0; j < n_columns; ++j) row_weights[j] = w[j * kPanelRows + row];
    for (size_t block = 0; block < n_blocks; block += at_once) {
      const size_t count = std::min(at_once, n_blocks - block);
      search(row_weights + block * block_size, importance + block * block_size, count, format, results);
      for (size_t b = 0; b < count; ++b) put(grid, results[b], block + b, row, panel);
    }
  }
}

}  // namespace

void search_panel(const SearchedGrid& grid, const float* w, const float* importance, size_t n_columns, Panel& panel) {
  panel.n_columns = n_columns;
  if (grid.symmetric != nullptr) {
    search_rows(grid.grid, *grid.symmetric, search_set().symmetric, w, importance, n_columns, panel);
  } else {
    search_rows(grid.grid, *grid.affine, search_set().affine, w, importance, n_columns, panel);
  }
}

void pack_row(const SearchedGrid& grid, const Panel& panel, size_t row, size_t block_bytes, void* blocks) {
  for (size_t block = 0; block < panel.n_columns / grid.grid.block_size(); ++block) {
    void* out = static_cast<std::byte*>(blocks) + block * block_bytes;
    if (grid.symmetric != nullptr) {
      SymmetricResult result;
      get(grid.grid, panel, block, row, result);
      grid.pack_symmetric(result, out);
    } else {
      AffineResult result;
      get(grid.grid, panel, block, row, result);
      grid.pack_affine(result, out);
    }
  }
}

void round_panel(const Grid& grid, const float* factor, size_t stride, float* target, Panel& panel, float* error) {
  search_set().round_panel(grid, factor, stride, target, panel, error);
}

void descend_panel(const Grid& grid, const float* h, size_t stride, int sweeps, float* gradient, Panel& panel) {
  search_set().descend_panel(grid, h, stride, sweeps, gradient, panel);
}

void panel_values(const Grid& grid, const Panel& panel, float* out) {
  for (size_t j = 0; j < panel.n_columns; ++j) {
    const size_t sub = j / grid.sub_size, block = j / grid.block_size();
    for (size_t r = 0; r < kPanelRows; ++r) {
      out[j * kPanelRows + r] =
          panel.d[block][r] * panel.scale[sub][r] * panel.level[j][r] - panel.dmin[block][r] * panel.min[sub][r];
    }
  }
}

}  // namespace shoehorn::quant
