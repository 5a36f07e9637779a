// The 12 bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit mins.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/float16.h"

namespace shoehorn::quant {

/// Bytes 0..3: scales 0..3, their top two bits: the high two bits of scales 4..7. Bytes 4..7: mins likewise.
/// Bytes 8..11: low nibbles of scales 4..7 (low) and mins 4..7 (high).
SHOEHORN_INLINE void unpack_k_scales(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8]) {
  for (size_t i = 0; i < 4; ++i) {
    scale[i] = packed[i] & 63;
    min[i] = packed[4 + i] & 63;
    scale[4 + i] = static_cast<uint8_t>((packed[8 + i] & 15) | ((packed[i] >> 6) << 4));
    min[4 + i] = static_cast<uint8_t>((packed[8 + i] >> 4) | ((packed[4 + i] >> 6) << 4));
  }
}

SHOEHORN_INLINE void pack_k_scales(const uint8_t scale[8], const uint8_t min[8], uint8_t packed[12]) {
  for (size_t i = 0; i < 4; ++i) {
    packed[i] = static_cast<uint8_t>(scale[i] | ((scale[4 + i] >> 4) << 6));
    packed[4 + i] = static_cast<uint8_t>(min[i] | ((min[4 + i] >> 4) << 6));
    packed[8 + i] = static_cast<uint8_t>((scale[4 + i] & 15) | ((min[4 + i] & 15) << 4));
  }
}

}  // namespace shoehorn::quant
