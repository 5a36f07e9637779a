#include "quant/q8_0.h"

#include "quant/block_format.h"

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

void pack(const SymmetricResult& result, Block& out) {
  out.d = result.d;
  for (size_t i = 0; i < kBlockSize; ++i) out.qs[i] = static_cast<int8_t>(result.code[i] + kFormat.lo);
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::q8_0
