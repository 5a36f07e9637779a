// Tensors of bitnet.cpp's type I2_S: ternary weights of 2 bits with one scale for the whole tensor.
// Source: microsoft/BitNet, src/ggml-bitnet-mad.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/status.h"

namespace shoehorn::io {

/// The type's number in a GGUF, which llama.cpp once had for another one.
inline constexpr uint32_t kI2sId = 36;

/// bitnet.cpp writes what its kernels read, and its files do not say on which machine that was. A byte has weights i, i + n, i + 2n and i + 3n at
/// bits 6, 4, 2 and 0, of every 4n weights: n is 32 (x86) or 16 (arm).
enum class I2sLayout { kX86, kArm };

/// How such tensors are taken apart that are opened from now on; nothing: they are refused. Before anything is opened: it is not guarded.
void set_i2s_layout(std::optional<I2sLayout> layout);
std::optional<I2sLayout> i2s_layout();

/// Bytes of a tensor of n weights, a multiple of 256; nothing where that is too many.
std::optional<uint64_t> i2s_bytes(uint64_t n);

/// The same weights as blocks of TQ2_0, whose scale is a binary16. Fails where a code is none of the three, or the scale is not finite.
Expected<std::vector<std::byte>> i2s_to_tq2_0(std::span<const std::byte> data, uint64_t n, I2sLayout layout);

}  // namespace shoehorn::io
