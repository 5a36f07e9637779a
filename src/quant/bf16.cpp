#include "quant/bf16.h"

#include <algorithm>

#include "base/float16.h"
#include "quant/block_format.h"

namespace shoehorn::quant::bf16 {
namespace {

float load(const Block& block) { return bf16_to_fp32(block.bits); }

/// Beyond the largest bfloat16 a finite weight stays the largest, never Inf.
Block store(float x) { return {fp32_to_bf16(std::clamp(x, -0x1.fep127f, 0x1.fep127f))}; }

}  // namespace

Format table_row(Type type, const char* gguf_name) { return float_format<Block, load, store>(type, gguf_name); }

}  // namespace shoehorn::quant::bf16
