#include "quant/tq1_0.h"

#include "quant/block_format.h"
#include "quant/ternary.h"

namespace shoehorn::quant::tq1_0 {
namespace {

/// Trits of up to five weights, the first the most significant, as ceil(256 * t / 3^5).
uint8_t pack(const uint8_t* trits, size_t stride, size_t count) {
  unsigned value = 0;
  for (size_t k = 0; k < 5; ++k) value = value * 3 + (k < count ? trits[k * stride] : 0u);
  return static_cast<uint8_t>((value * 256 + 242) / 243);
}

void encode_block(const float* in, const float*, Block& out) {
  uint8_t trits[kBlockSize];
  out.d = encode_ternary(in, kBlockSize, trits);
  for (size_t i = 0; i < 32; ++i) out.qs[i] = pack(trits + i, 32, 5);
  for (size_t i = 0; i < 16; ++i) out.qs[32 + i] = pack(trits + 160 + i, 16, 5);
  for (size_t i = 0; i < 4; ++i) out.qh[i] = pack(trits + 240 + i, 4, 4);
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return block_format<Block, kBlockSize, unpack, encode_block>(type, gguf_name);
}

}  // namespace shoehorn::quant::tq1_0
