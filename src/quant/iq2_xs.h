// IQ2_XS: 256 weights in 16 sub-blocks, eight weights an entry of a codebook of 512 with seven sign bits,
// w = d * (2 * scale + 1) / 8 * q with 4-bit scales.
#pragma once

#include "quant/codebooks.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq2_xs {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint16_t d;         ///< binary16 scale
  uint16_t qs[32];    ///< entry of the weights from 8 i on in the low nine bits, their signs in the high seven
  uint8_t scales[8];  ///< scale 2 i in the low nibble, 2 i + 1 in the high
};
static_assert(sizeof(Block) == 74);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t i = 0; i < 32; ++i) {
    const uint32_t packed = block.qs[i];
    store_eight(out.q + 8 * i, with_signs(kIq2XsCodebook.q[packed & 511], with_even_parity(packed >> 9)));
  }
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 16; ++g) {
    const int scale = (block.scales[g / 2] >> (4 * (g % 2))) & 15;
    out.scale[g] = d * static_cast<float>(2 * scale + 1) * 0.125f;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq2_xs
