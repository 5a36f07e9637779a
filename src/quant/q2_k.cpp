#include "quant/q2_k.h"

#include "quant/block_format.h"

namespace shoehorn::quant::q2_k {
namespace {

constexpr AffineFormat kFormat{.n_sub = 16,
                               .sub_size = 16,
                               .hi = 3,
                               .scale_hi = 15,
                               .rms_share = 0.75f,
                               .shrink = 1.0f,
                               .grow = 1.0f,
                               .step = 0.15f};

void pack(const AffineResult& result, Block& out) {
  out.d = result.d;
  out.dmin = result.dmin;
  for (size_t s = 0; s < 16; ++s) out.scales[s] = static_cast<uint8_t>(result.scale[s] | (result.min[s] << 4));
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* code = result.code + 128 * half;
    for (size_t i = 0; i < 32; ++i) {
      out.qs[32 * half + i] = static_cast<uint8_t>((code[i] & 3) | ((code[32 + i] & 3) << 2) |
                                                   ((code[64 + i] & 3) << 4) | ((code[96 + i] & 3) << 6));
    }
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::q2_k
