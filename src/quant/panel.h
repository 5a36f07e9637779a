// Rounding weights to a format's grid under a full quadratic error. With H = X'X of the inputs X of a matrix product, a
// row w that becomes v costs (v - w)' H (v - w) at the output; a search (quant/search.h) knows only H's diagonal.
//
// Rows are taken sixteen at a time, a lane each, and up to 256 columns of them: a panel. Two steps work on a panel:
//   * round_panel rounds its columns in order, each error made good by the columns after it as well as they can (GPTQ,
//   Frantar et al.
//     2022, arXiv:2210.17323, eq. 2-3; the same as Babai's nearest plane);
//   * descend_panel changes one code, one pair of sub-block integers or one pair of block factors at a time, each to
//   what is best while
//     all else stays (coordinate descent), so that the error can only fall.
// What lies between panels is matrix products, left to the caller (compress/calibrate/matrix_quantizer.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/unpacked.h"

namespace shoehorn::quant {

inline constexpr size_t kPanelRows = 16;
inline constexpr size_t kPanelColumns = kMaxBlock;

/// The values that a block of a format can take: d * scale[s] * level - dmin * min[s] in sub-blocks s.
struct Grid {
  size_t n_sub, sub_size;  ///< sub-blocks per block, weights per sub-block
  int lo, hi;              ///< the levels lo..hi; or the first and the last of the codebook
  const int8_t* codebook;  ///< 16 ascending levels, or nullptr
  int scale_lo, scale_hi;  ///< integers that scale[s] may take, min[s] 0..scale_hi; 1 and 1: there are none
  bool has_min;            ///< false: dmin is zero
  bool any_min;            ///< dmin may have any sign; else d and dmin are not negative where has_min

  size_t block_size() const { return n_sub * sub_size; }
};

/// 16 rows of up to 256 columns as a grid's values; [.][row].
struct Panel {
  size_t n_columns;                                     ///< a multiple of the block size
  alignas(64) float d[kPanelColumns / 32][kPanelRows];  ///< per block, as stored
  alignas(64) float dmin[kPanelColumns / 32][kPanelRows];
  alignas(64) float scale[kPanelColumns / kGroup][kPanelRows];  ///< per sub-block, integers
  alignas(64) float min[kPanelColumns / kGroup][kPanelRows];
  alignas(64) float level[kPanelColumns][kPanelRows];  ///< per weight
};

struct SymmetricFormat;
struct SymmetricResult;
struct AffineFormat;
struct AffineResult;

/// A format's grid, with the search of good values on it and the way from there to a block.
struct SearchedGrid {
  Grid grid;
  const SymmetricFormat* symmetric = nullptr;  ///< one of the two
  const AffineFormat* affine = nullptr;
  void (*pack_symmetric)(const SymmetricResult& result, void* block) = nullptr;
  void (*pack_affine)(const AffineResult& result, void* block) = nullptr;

  constexpr SearchedGrid(Grid g, const SymmetricFormat* format, void (*pack)(const SymmetricResult&, void*))
      : grid(g), symmetric(format), pack_symmetric(pack) {}
  constexpr SearchedGrid(Grid g, const AffineFormat* format, void (*pack)(const AffineResult&, void*))
      : grid(g), affine(format), pack_affine(pack) {}
};

/// Sets a panel to what the format's search finds for rows w [n_columns][16], importance [n_columns] being the weight
/// of each column's squared error. Unlike in encode, a weight's own size does not count.
void search_panel(const SearchedGrid& grid, const float* w, const float* importance, size_t n_columns, Panel& panel);

/// The blocks of one row of a panel: block_bytes each.
void pack_row(const SearchedGrid& grid, const Panel& panel, size_t row, size_t block_bytes, void* blocks);

/// Levels for the panel's scales and mins. factor: [n_columns][stride], the panel's part of the upper triangular U with
/// U'U = H^-1. target: [n_columns][16], the weights with earlier panels' errors made good; overwritten. error:
/// [n_columns][16], what later columns k have to make good: w_k -= U_jk error_j.
void round_panel(const Grid& grid, const float* factor, size_t stride, float* target, Panel& panel, float* error);

/// `sweeps` times over all that can be changed in the panel. h: [n_columns][stride], the panel's part of H. gradient:
/// [n_columns][16], H (v - w) of the whole rows at the panel's columns; overwritten.
void descend_panel(const Grid& grid, const float* h, size_t stride, int sweeps, float* gradient, Panel& panel);

/// The values [n_columns][16].
void panel_values(const Grid& grid, const Panel& panel, float* out);

}  // namespace shoehorn::quant
