// BF16: the upper half of an IEEE binary32, one weight per block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoehorn::quant::bf16 {

inline constexpr size_t kBlockSize = 1;

struct __attribute__((packed)) Block {
  uint16_t bits;
};
static_assert(sizeof(Block) == 2);

}  // namespace shoehorn::quant::bf16
