#include "quant/mxfp4.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "quant/block_format.h"

namespace shoehorn::quant::mxfp4 {
namespace {

/// With larger scales 12 steps are beyond the largest float.
constexpr int kLargestExponent = 252;

/// The code nearest to x / scale.
uint8_t nearest(float x, float scale) {
  const float v = std::fabs(x) / scale;
  uint8_t code = 0;
  while (code < 7 && 2 * v > static_cast<float>(kLevels[code] + kLevels[code + 1])) ++code;
  return static_cast<uint8_t>(code | (x < 0 ? 8 : 0));
}

void encode_block(const float* in, const float* importance, Block& out) {
  float largest = 0, heaviest = 0;
  for (size_t i = 0; i < kBlockSize; ++i) {
    largest = std::max(largest, std::fabs(in[i]));
    if (importance != nullptr) heaviest = std::max(heaviest, importance[i]);
  }
  const bool weighted = heaviest > 0 && std::isfinite(heaviest);
  // The exponent with which the largest weight is the largest level or next to it, and those around.
  const int middle = largest > 0 ? std::ilogb(largest) + 125 : 0;
  double least = 0;
  bool first = true;
  for (int e = std::clamp(middle - 2, 0, kLargestExponent); e <= std::clamp(middle + 1, 0, kLargestExponent); ++e) {
    const float scale = scale_of(static_cast<uint8_t>(e));
    double error = 0;
    for (size_t i = 0; i < kBlockSize; ++i) {
      const float w = scale * static_cast<float>(kLevels[nearest(in[i], scale)]);
      const double difference = static_cast<double>(w) - static_cast<double>(in[i]);
      error += difference * difference * (weighted ? static_cast<double>(importance[i] / heaviest) : 1.0);
    }
    if (!first && error >= least) continue;
    first = false;
    least = error;
    out.e = static_cast<uint8_t>(e);
  }
  const float scale = scale_of(out.e);
  for (size_t i = 0; i < 16; ++i) {
    out.qs[i] = static_cast<uint8_t>(nearest(in[i], scale) | nearest(in[16 + i], scale) << 4);
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return block_format<Block, kBlockSize, unpack, encode_block>(type, gguf_name);
}

}  // namespace shoehorn::quant::mxfp4
