// The searches that all encoders share: which scales, mins and levels give the least weighted squared error.
//
// Per sub-block, many trial scales are each rounded against and refitted in closed form (weighted least squares), and
// the best is polished by rounding and refitting in turn. Then, within a superblock, the scales are themselves rounded
// to integers times a binary16 factor; there the factors and the integers are improved in turn, measuring the true
// error with weights rounded against what will be stored.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/unpacked.h"

namespace shoehorn::quant {

/// A block made ready for a search: scaled by a power of two such that max |x| is in [1, 2), so that no float overflows
/// or underflows on the way, with positive weights of the squared error.
struct SearchBlock {
  alignas(16) float x[kMaxBlock];
  alignas(16) float w[kMaxBlock];
  float unit;  ///< original = x * unit
};

/// Fills `out` from in[n]. importance: [n] or nullptr (all one); all zero counts as nullptr.
/// The error of x is weighted with importance * (rms_share * rms of the sub-block + |x|): few bits pull weights towards
/// zero, and large weights, which do most of a model's work, must be kept from it. The more bits a format has the less
/// that matters, and the larger its rms_share. (Chosen by KL divergence to the F16 model.) False when every weight is
/// zero or too small for a binary16 scale to reach; the block is then to be encoded as zeros.
bool prepare(const float* in, const float* importance, size_t n, size_t sub_size, float rms_share, SearchBlock& out);

/// Symmetric formats: x = d * scale[s] * level[code] in sub-blocks s.
struct SymmetricFormat {
  size_t n_sub;
  size_t sub_size;           ///< a multiple of 16
  int lo, hi;                ///< the levels: lo..hi, code = level - lo; or, with a codebook, its first and last
  const int8_t* codebook;    ///< 16 ascending levels, or nullptr
  int scale_lo, scale_hi;    ///< integers that scale[s] may take; 1 and 1: there is none
  float rms_share;           ///< see prepare()
  float shrink, grow, step;  ///< trial scales put the largest weight at levels from (end - shrink) to (end + grow)
};

struct SymmetricResult {
  uint16_t d;  ///< binary16, always finite
  int8_t scale[16];
  uint8_t code[kMaxBlock];
};

void search_symmetric(const SearchBlock& block, const SymmetricFormat& format, SymmetricResult& out);

/// Formats with a min: x = d * scale[s] * code - dmin * min[s] in sub-blocks s.
struct AffineFormat {
  size_t n_sub;
  size_t sub_size;           ///< a multiple of 16
  int hi;                    ///< codes are 0..hi
  int scale_hi;              ///< scale[s] and min[s] are 0..scale_hi; 1: there are none, and dmin may have any sign
  float rms_share;           ///< see prepare()
  float shrink, grow, step;  ///< trial scales put the range of the weights at hi - shrink to hi + grow levels
};

struct AffineResult {
  uint16_t d, dmin;  ///< binary16, always finite
  uint8_t scale[16], min[16];
  uint8_t code[kMaxBlock];
};

void search_affine(const SearchBlock& block, const AffineFormat& format, AffineResult& out);

/// binary16 nearest to x * unit, saturating at the largest finite; `stored` becomes its value / unit.
uint16_t to_stored(float x, float unit, float& stored);

/// The same, but the smallest binary16 rather than zero for an x that is not zero: codes can only make up for a scale
/// that is too large.
uint16_t to_stored_scale(float x, float unit, float& stored);

/// One number per sub-block, e.g. its scale, and how much an error of it matters. Unused entries are zero.
struct SubBlockValues {
  alignas(16) float value[16] = {};
  alignas(16) float weight[16] = {};
};

/// The factor d, as stored, with which d * integers of lo..hi come closest to the values, errors squared and weighted.
/// lo == 0 asks for d >= 0 and takes negative values for zero.
float fit_factor(const SubBlockValues& values, int lo, int hi, float unit);

}  // namespace shoehorn::quant
