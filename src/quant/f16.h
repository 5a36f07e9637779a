// F16: IEEE binary16, one weight per block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoehorn::quant::f16 {

inline constexpr size_t kBlockSize = 1;

struct __attribute__((packed)) Block {
  uint16_t bits;
};
static_assert(sizeof(Block) == 2);

}  // namespace shoehorn::quant::f16
