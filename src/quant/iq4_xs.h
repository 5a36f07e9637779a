// IQ4_XS: 256 weights of 4 bits in 8 sub-blocks, w = d * (scale - 32) * level[q] with 6-bit scales and the levels of
// iq4_codebook.h.
#pragma once

#include "quant/iq4_codebook.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq4_xs {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint16_t d;           ///< binary16 scale of the scales
  uint16_t scales_h;    ///< high two bits of scale s at bits 2 s
  uint8_t scales_l[4];  ///< low four bits: scale 2 i in the low nibble, 2 i + 1 in the high
  uint8_t qs[128];      ///< byte 16 s + i holds weight 32 s + i in the low nibble, 32 s + 16 + i in the high
};
static_assert(sizeof(Block) == 136);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  const float d = fp16_to_fp32(block.d);
  for (size_t s = 0; s < 8; ++s) {
    look_up_iq4(block.qs + 16 * s, out.q + 32 * s);
    const int low = (block.scales_l[s / 2] >> (4 * (s % 2))) & 15;
    const int high = (block.scales_h >> (2 * s)) & 3;
    out.scale[2 * s] = out.scale[2 * s + 1] = d * static_cast<float>((low | (high << 4)) - 32);
    out.min[2 * s] = out.min[2 * s + 1] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq4_xs
