// The common form of every integer block format: w[i] = scale[i / 16] * q[i] - min[i / 16].
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/float16.h"

namespace shoehorn::quant {

inline constexpr size_t kGroup = 16;       ///< weights that share one (scale, min) in the unpacked form
inline constexpr size_t kMaxBlock = 256;   ///< the largest block of any format

/// One block, unpacked. A format with a block of 32 fills q[0..32) and two groups.
struct Unpacked {
  alignas(64) int8_t q[kMaxBlock];
  alignas(64) float scale[kMaxBlock / kGroup];
  alignas(64) float min[kMaxBlock / kGroup];
};

/// Sixteen bytes in a register of any instruction set. For the blocks of 32, whose short loops the compiler unrolls into
/// single bytes.
using Bytes = uint8_t __attribute__((vector_size(16)));

SHOEHORN_INLINE Bytes load_bytes(const uint8_t* from) {
  Bytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return bytes;
}

SHOEHORN_INLINE void store_bytes(int8_t* to, Bytes bytes) { __builtin_memcpy(to, &bytes, sizeof bytes); }

}  // namespace shoehorn::quant
