#include "io/i2s.h"

#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/float16.h"
#include "quant/tq2_0.h"

namespace shoehorn::io {
namespace {

using quant::tq2_0::Block;

std::optional<I2sLayout> ambient;

constexpr uint64_t kTail = 32;  // behind the weights: the scale, and what aligns the next tensor

}  // namespace

void set_i2s_layout(std::optional<I2sLayout> layout) { ambient = layout; }
std::optional<I2sLayout> i2s_layout() { return ambient; }

std::optional<uint64_t> i2s_bytes(uint64_t n) { return checked_add(n / 4, kTail); }

Expected<std::vector<std::byte>> i2s_to_tq2_0(std::span<const std::byte> data, uint64_t n, I2sLayout layout) {
  float scale = 0;
  std::memcpy(&scale, data.data() + n / 4, sizeof scale);
  if (!std::isfinite(scale) || std::abs(scale) > 65504) return fail(ErrorCode::kInvalid, "its scale is {}", scale);
  const uint64_t stride = layout == I2sLayout::kX86 ? 32 : 16;
  std::vector<std::byte> out(n / quant::tq2_0::kBlockSize * sizeof(Block));
  for (uint64_t b = 0; b < n / quant::tq2_0::kBlockSize; ++b) {
    uint8_t code[quant::tq2_0::kBlockSize];
    for (uint64_t i = 0; i < quant::tq2_0::kBlockSize; ++i) {
      const uint64_t w = b * quant::tq2_0::kBlockSize + i, group = w / (4 * stride), at = w % (4 * stride);
      const auto byte = static_cast<uint8_t>(data[group * stride + at % stride]);
      code[i] = (byte >> (6 - 2 * (at / stride))) & 3;
      if (code[i] == 3) return fail(ErrorCode::kInvalid, "weight {} has code 3, which I2_S does not", w);
    }
    Block block{};
    block.d = fp32_to_fp16(scale);
    for (size_t half = 0; half < 2; ++half) {
      for (size_t i = 0; i < 32; ++i) {
        const uint8_t* c = code + 128 * half + i;
        block.qs[32 * half + i] = static_cast<uint8_t>(c[0] | c[32] << 2 | c[64] << 4 | c[96] << 6);
      }
    }
    std::memcpy(out.data() + b * sizeof block, &block, sizeof block);
  }
  return out;
}

}  // namespace shoehorn::io
