#include "quant/q6_k.h"

#include "quant/block_format.h"

namespace shoehorn::quant::q6_k {
namespace {

constexpr SymmetricFormat kFormat{.n_sub = 16,
                                  .sub_size = 16,
                                  .lo = -32,
                                  .hi = 31,
                                  .codebook = nullptr,
                                  .scale_lo = -128,
                                  .scale_hi = 127,
                                  .rms_share = 8.0f,
                                  .shrink = 3.0f,
                                  .grow = 1.0f,
                                  .step = 0.36f};

void pack(const SymmetricResult& result, Block& out) {
  out.d = result.d;
  for (size_t s = 0; s < 16; ++s) out.scales[s] = result.scale[s];
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* code = result.code + 128 * half;
    for (size_t i = 0; i < 64; ++i) {
      out.ql[64 * half + i] = static_cast<uint8_t>((code[i] & 15) | ((code[64 + i] & 15) << 4));
    }
    for (size_t i = 0; i < 32; ++i) {
      out.qh[32 * half + i] = static_cast<uint8_t>((code[i] >> 4) | ((code[32 + i] >> 4) << 2) |
                                                   ((code[64 + i] >> 4) << 4) | ((code[96 + i] >> 4) << 6));
    }
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::q6_k
