// IQ1_S: 256 weights in 8 sub-blocks, eight weights an entry of a codebook of 2048, all of a sub-block moved by an
// eighth up or down, w = d * (2 * scale + 1) / 8 * q with 3-bit scales and q = 8 * entry +- 1.
#pragma once

#include "quant/codebooks.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq1_s {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint16_t d;      ///< binary16 scale
  uint8_t qs[32];  ///< low eight bits of the entry of the weights from 8 i on
  uint16_t
      qh[8];  ///< per sub-block the high three bits of its four entries, the scale from bit 12 up; bit 15: moved down
};
static_assert(sizeof(Block) == 50);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  const float d = fp16_to_fp32(block.d);
  for (size_t s = 0; s < 8; ++s) {
    const size_t packed = block.qh[s];
    const int delta = (packed & 0x8000) != 0 ? -1 : 1;
    int8_t* q = out.q + 32 * s;
    for (size_t i = 0; i < 4; ++i) {
      store_eight(q + 8 * i, kIq1Codebook.q[block.qs[4 * s + i] | ((packed >> (3 * i)) & 7) << 8]);
    }
    for (size_t i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(q[i] + delta);
    out.scale[2 * s] = out.scale[2 * s + 1] = d * static_cast<float>(2 * ((packed >> 12) & 7) + 1) * 0.125f;
    out.min[2 * s] = out.min[2 * s + 1] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq1_s
