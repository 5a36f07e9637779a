#include "quant/q8_0.h"

#include "quant/block_format.h"
#include "quant/search.h"

namespace shoehorn::quant::q8_0 {
namespace {

constexpr SymmetricFormat kFormat{.n_sub = 1,
                                  .sub_size = 32,
                                  .lo = -127,
                                  .hi = 127,
                                  .codebook = nullptr,
                                  .scale_lo = 1,
                                  .scale_hi = 1,
                                  .rms_share = 8.0f,
                                  .shrink = 1.5f,
                                  .grow = 0.5f,
                                  .step = 0.25f};

void encode_block(const float* in, const float* importance, Block& out) {
  out = {};
  SearchBlock block;
  if (!prepare(in, importance, kBlockSize, kFormat.sub_size, kFormat.rms_share, block)) return;
  SymmetricResult result;
  search_symmetric(block, kFormat, result);
  out.d = result.d;
  for (size_t i = 0; i < kBlockSize; ++i) out.qs[i] = static_cast<int8_t>(result.code[i] + kFormat.lo);
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return block_format<Block, kBlockSize, unpack, encode_block>(type, gguf_name);
}

}  // namespace shoehorn::quant::q8_0
