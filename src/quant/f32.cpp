#include "quant/f32.h"

#include "quant/block_format.h"

namespace shoehorn::quant::f32 {
namespace {

float load(const Block& block) { return block.value; }
Block store(float x) { return {x}; }

}  // namespace

Format table_row(Type type, const char* gguf_name) { return float_format<Block, load, store>(type, gguf_name); }

}  // namespace shoehorn::quant::f32
