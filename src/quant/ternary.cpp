#include "quant/ternary.h"

#include <algorithm>
#include <cmath>

#include "base/float16.h"

namespace shoehorn::quant {

uint16_t encode_ternary(const float* in, size_t n, uint8_t* trits) {
  float largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(in[i]));
  // Below 2^-126 the reciprocal overflows; such weights are zero in binary16 anyway.
  const float inverse = largest >= 0x1p-126f ? 1.0f / largest : 0.0f;
  for (size_t i = 0; i < n; ++i) trits[i] = static_cast<uint8_t>(1 + std::lround(in[i] * inverse));
  return fp32_to_fp16(std::min(largest, 65504.0f));
}

}  // namespace shoehorn::quant
