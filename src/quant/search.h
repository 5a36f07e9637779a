// The searches that all encoders share: which scales, mins and levels give the least weighted squared error.
//
// Per sub-block, many trial scales are each rounded against and refitted in closed form (weighted least squares), and
// the best is polished by rounding and refitting in turn. Then, within a superblock, the scales are themselves rounded
// to integers times a binary16 factor; there the factors and the integers are improved in turn, measuring the true
// error with weights rounded against what will be stored.
//
// Sixteen sub-blocks are searched at once, each in a lane of its own: of one superblock, of two, or of sixteen. Lanes
// meet only to add up a superblock, in a fixed order, so that the result is the same bits on every instruction set.
// Formats with a codebook are searched a superblock at a time; there the lanes are sixteen entries that a group of
// weights may take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/panel.h"
#include "quant/unpacked.h"

namespace shoehorn::quant {

/// Sub-blocks that are searched at once.
inline constexpr size_t kSearchLanes = 16;

/// The weight of the squared error of x is importance * (rms_share * rms of the sub-block + |x|): few bits pull weights
/// towards zero, and large weights, which do most of a model's work, must be kept from it. The more bits a format has
/// the less that matters, and the larger its rms_share. (Chosen by KL divergence to the F16 model.)

struct SymmetricResult {
  bool zero;   ///< every weight is zero or too small for a binary16 scale to reach; nothing else is set then
  uint16_t d;  ///< binary16, always finite
  int8_t scale[16];
  uint8_t code[kMaxBlock];
};

/// Symmetric formats: x = d * scale[s] * level[code] in sub-blocks s.
struct SymmetricFormat {
  using Result = SymmetricResult;
  size_t n_sub;              ///< 1, 8 or 16
  size_t sub_size;           ///< 16 or 32
  int lo, hi;                ///< the levels: lo..hi, code = level - lo; or, with a codebook, its first and last
  const int8_t* codebook;    ///< 16 ascending levels, or nullptr
  int scale_lo, scale_hi;    ///< integers that scale[s] may take; 1 and 1: there is none
  float rms_share;           ///< see above
  float shrink, grow, step;  ///< trial scales put the largest weight at levels from (end - shrink) to (end + grow)
};

struct AffineResult {
  bool zero;         ///< as above
  uint16_t d, dmin;  ///< binary16, always finite
  uint8_t scale[16], min[16];
  uint8_t code[kMaxBlock];
};

/// Formats with a min: x = d * scale[s] * code - dmin * min[s] in sub-blocks s.
struct AffineFormat {
  using Result = AffineResult;
  size_t n_sub;              ///< 1, 8 or 16
  size_t sub_size;           ///< 16 or 32
  int hi;                    ///< codes are 0..hi
  int scale_hi;              ///< scale[s] and min[s] are 0..scale_hi; 1: there are none, and dmin may have any sign
  float rms_share;           ///< see above
  float shrink, grow, step;  ///< trial scales put the range of the weights at hi - shrink to hi + grow levels
};

constexpr Grid grid_of(const SymmetricFormat& f) {
  return {f.n_sub, f.sub_size, f.lo, f.hi, f.codebook, f.scale_lo, f.scale_hi, false, false};
}
constexpr Grid grid_of(const AffineFormat& f) {
  return {f.n_sub, f.sub_size, 0, f.hi, nullptr, f.scale_hi == 1 ? 1 : 0, f.scale_hi, true, f.scale_hi == 1};
}
struct CodebookResult {
  bool zero;           ///< as above
  uint16_t d;          ///< binary16, always finite
  uint8_t scale[16];
  uint16_t entry[64];  ///< of each four or eight weights
  uint8_t signs[32];   ///< of each eight weights: a bit per negative one
  bool down[32];       ///< of each eight weights: the delta is negative
};

/// Formats whose codes are entries of a codebook (codebooks.h): x = d * (2 * scale[s] + 1) * factor * (+-level + delta).
struct CodebookFormat {
  using Result = CodebookResult;
  /// Where signs are: in the levels; a bit for each weight; the same, but an even number of bits is set in each eight.
  enum class Signs : uint8_t { kInLevels, kFree, kEven };
  size_t n_sub;                   ///< 8 or 16
  size_t sub_size;                ///< 32 or 16
  size_t entry_size;              ///< weights of an entry: 8, of at most 4 levels, or 4, of at most 8
  size_t n_levels;
  const int* level;
  float lowest, step;             ///< of the even levels that the levels are close to
  const uint32_t* (*near)();      ///< the codebook's entries near to a group of levels
  Signs signs;
  size_t delta_size;              ///< weights that share a delta of -1 or 1: 8 or sub_size; 0: there is none
  int scale_hi;                   ///< scale[s] is 0..scale_hi
  float factor;
  float rms_share;                ///< see above
  float first_reach, last_reach;  ///< trial scales put the largest weight at first_reach to last_reach
};

/// Searches n_blocks <= kSearchLanes / n_sub blocks of n_sub * sub_size weights each, from `in` to out[n_blocks].
/// importance: [n_blocks * n_sub * sub_size] or nullptr (all one); where it is all zero in a block it counts as
/// nullptr.
template <class AnyFormat>
using Search = void (*)(const float* in, const float* importance, size_t n_blocks, const AnyFormat& format,
                        typename AnyFormat::Result* out);

/// The searches as compiled for one instruction set.
struct SearchSet {
  const char* isa;        ///< name for SHOEHORN_ISA: "scalar", "avx2", ...
  uint32_t cpu_features;  ///< base/cpu.h bits that it needs
  Search<SymmetricFormat> symmetric;
  Search<AffineFormat> affine;
  Search<CodebookFormat> codebook;
  decltype(&quant::round_panel) round_panel;  ///< see quant/panel.h
  decltype(&quant::descend_panel) descend_panel;
};

/// All sets in this build, slowest first, including ones that this CPU cannot run.
std::span<const SearchSet> search_sets();

/// The set in use: the last one that the CPU can run, or the one that the environment variable SHOEHORN_ISA names when
/// it can run that. All give the same result.
const SearchSet& search_set();

/// Makes every encoder use this set from now on, so that sets can be compared.
void use_search_set(const SearchSet& set);

}  // namespace shoehorn::quant
