#include "quant/q5_k.h"

#include "quant/block_format.h"

namespace shoehorn::quant::q5_k {
namespace {

constexpr AffineFormat kFormat{.n_sub = 8,
                               .sub_size = 32,
                               .hi = 31,
                               .scale_hi = 63,
                               .rms_share = 4.0f,
                               .shrink = 0.5f,
                               .grow = 1.0f,
                               .step = 0.2f};

void pack(const AffineResult& result, Block& out) {
  out.d = result.d;
  out.dmin = result.dmin;
  pack_k_scales(result.scale, result.min, out.scales);
  for (size_t chunk = 0; chunk < 4; ++chunk) {
    const uint8_t* code = result.code + 64 * chunk;
    for (size_t i = 0; i < 32; ++i) {
      out.qs[32 * chunk + i] = static_cast<uint8_t>((code[i] & 15) | ((code[32 + i] & 15) << 4));
    }
  }
  for (size_t i = 0; i < 32; ++i) {
    for (size_t s = 0; s < 8; ++s) {
      out.qh[i] = static_cast<uint8_t>(out.qh[i] | ((result.code[32 * s + i] >> 4) << s));
    }
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::q5_k
