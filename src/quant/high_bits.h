// The fifth bits of Q5_0 and Q5_1: 32 bits, bit i belongs to weight i.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/float16.h"

namespace shoehorn::quant {

/// out[i] = 16 where bit i of the 32 bits in qh is set, else 0. Eight bits at a time in a 64-bit register: copy the
/// byte to all eight, keep bit i in byte i, and move it to bit 7 by an addition that cannot carry into the next byte.
SHOEHORN_INLINE void spread_fifth_bits(const uint8_t qh[4], uint8_t out[32]) {
  for (size_t b = 0; b < 4; ++b) {
    const uint64_t selected = (qh[b] * 0x0101010101010101ull) & 0x8040201008040201ull;
    const uint64_t sixteens = ((selected + 0x7f7f7f7f7f7f7f7full) & 0x8080808080808080ull) >> 3;
    std::memcpy(out + 8 * b, &sixteens, 8);
  }
}

/// The reverse: bit i = bit 4 of codes[i].
SHOEHORN_INLINE void gather_fifth_bits(const uint8_t codes[32], uint8_t qh[4]) {
  for (size_t b = 0; b < 4; ++b) {
    uint8_t byte = 0;
    for (size_t i = 0; i < 8; ++i) byte = static_cast<uint8_t>(byte | (((codes[8 * b + i] >> 4) & 1) << i));
    qh[b] = byte;
  }
}

}  // namespace shoehorn::quant
