// IQ1_M: 256 weights in 16 sub-blocks, eight weights an entry of a codebook of 2048, each entry moved by an eighth up
// or down, w = d * (2 * scale + 1) / 8 * q with 3-bit scales and q = 8 * entry +- 1.
#pragma once

#include "quant/codebooks.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq1_m {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint8_t qs[32];      ///< low eight bits of the entry of the weights from 8 i on
  uint8_t qh[16];      ///< nibble i (low first): the entry's high three bits; bit 3: moved down
  uint16_t scales[4];  ///< four scales of three bits each, and above them nibble i of the binary16 scale of the scales
};
static_assert(sizeof(Block) == 56);

/// The binary16 scale of the scales.
SHOEHORN_INLINE uint16_t scale_of_scales(const Block& block) {
  return static_cast<uint16_t>((block.scales[0] >> 12) | ((block.scales[1] >> 12) << 4) |
                               ((block.scales[2] >> 12) << 8) | ((block.scales[3] >> 12) << 12));
}

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t i = 0; i < 32; ++i) {
    const size_t high = (block.qh[i / 2] >> (4 * (i % 2))) & 15;
    const int delta = (high & 8) != 0 ? -1 : 1;
    int8_t* q = out.q + 8 * i;
    store_eight(q, kIq1Codebook.q[block.qs[i] | (high & 7) << 8]);
    for (size_t k = 0; k < 8; ++k) q[k] = static_cast<int8_t>(q[k] + delta);
  }
  const float d = fp16_to_fp32(scale_of_scales(block));
  for (size_t g = 0; g < 16; ++g) {
    out.scale[g] = d * static_cast<float>(2 * ((block.scales[g / 4] >> (3 * (g % 4))) & 7) + 1) * 0.125f;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq1_m
