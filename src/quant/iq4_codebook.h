// The 16 levels that IQ4_NL and IQ4_XS share: spaced like a bell-shaped distribution of weights, not evenly.
#pragma once

#include <cstddef>
#include <cstdint>

#include "quant/unpacked.h"

namespace shoehorn::quant {

/// Level of each 4-bit code.
alignas(16) static constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};

/// q[i] = level of the low nibble of codes[i], q[16 + i] = level of the high nibble.
SHOEHORN_INLINE void look_up_iq4(const uint8_t* __restrict codes, int8_t* __restrict q) {
#if defined(__SSSE3__) || defined(__ARM_NEON)
  Bytes table, packed;
  __builtin_memcpy(&table, kIq4Levels, 16);
  __builtin_memcpy(&packed, codes, 16);
  const Bytes low = __builtin_shuffle(table, packed & 15);
  const Bytes high = __builtin_shuffle(table, packed >> 4);
  store_bytes(q, low);
  store_bytes(q + 16, high);
#else
  for (size_t i = 0; i < 16; ++i) {
    q[i] = kIq4Levels[codes[i] & 15];
    q[16 + i] = kIq4Levels[codes[i] >> 4];
  }
#endif
}

}  // namespace shoehorn::quant
