// F32: plain IEEE binary32, one weight per block.
#pragma once

#include <cstddef>

namespace shoehorn::quant::f32 {

inline constexpr size_t kBlockSize = 1;

struct __attribute__((packed)) Block {
  float value;
};
static_assert(sizeof(Block) == 4);

}  // namespace shoehorn::quant::f32
