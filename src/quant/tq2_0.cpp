#include "quant/tq2_0.h"

#include "quant/block_format.h"
#include "quant/ternary.h"

namespace shoehorn::quant::tq2_0 {
namespace {

void encode_block(const float* in, const float*, Block& out) {
  uint8_t trits[kBlockSize];
  out.d = encode_ternary(in, kBlockSize, trits);
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* t = trits + 128 * half;
    for (size_t i = 0; i < 32; ++i) {
      out.qs[32 * half + i] = static_cast<uint8_t>(t[i] | (t[32 + i] << 2) | (t[64 + i] << 4) | (t[96 + i] << 6));
    }
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return block_format<Block, kBlockSize, unpack, encode_block>(type, gguf_name);
}

}  // namespace shoehorn::quant::tq2_0
