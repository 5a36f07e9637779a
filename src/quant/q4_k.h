// Q4_K: 256 weights of 4 bits in 8 sub-blocks, w = d * scale * q - dmin * min with 6-bit scales and mins.
#pragma once

#include "quant/k_scales.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::q4_k {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint16_t d;          ///< binary16 scale of the scales
  uint16_t dmin;       ///< binary16 scale of the mins
  uint8_t scales[12];  ///< see k_scales.h
  uint8_t qs[128];     ///< byte 32 c + i holds weight 64 c + i in the low nibble, 64 c + 32 + i in the high
};
static_assert(sizeof(Block) == 144);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t chunk = 0; chunk < 4; ++chunk) {
    const uint8_t* qs = block.qs + 32 * chunk;
    int8_t* q = out.q + 64 * chunk;
    for (size_t i = 0; i < 32; ++i) {
      q[i] = static_cast<int8_t>(qs[i] & 15);
      q[32 + i] = static_cast<int8_t>(qs[i] >> 4);
    }
  }
  uint8_t scale[8], min[8];
  unpack_k_scales(block.scales, scale, min);
  const float d = fp16_to_fp32(block.d);
  const float dmin = fp16_to_fp32(block.dmin);
  for (size_t s = 0; s < 8; ++s) {
    out.scale[2 * s] = out.scale[2 * s + 1] = d * static_cast<float>(scale[s]);
    out.min[2 * s] = out.min[2 * s + 1] = dmin * static_cast<float>(min[s]);
  }
}

}  // namespace shoehorn::quant::q4_k
