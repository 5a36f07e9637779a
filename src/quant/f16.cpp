#include "quant/f16.h"

#include <algorithm>

#include "base/float16.h"
#include "quant/block_format.h"

namespace shoehorn::quant::f16 {
namespace {

float load(const Block& block) { return fp16_to_fp32(block.bits); }

/// Beyond the largest binary16 a finite weight stays the largest, never Inf.
Block store(float x) { return {fp32_to_fp16(std::clamp(x, -65504.0f, 65504.0f))}; }

}  // namespace

Format table_row(Type type, const char* gguf_name) { return float_format<Block, load, store>(type, gguf_name); }

}  // namespace shoehorn::quant::f16
