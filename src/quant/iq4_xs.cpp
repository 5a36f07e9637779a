#include "quant/iq4_xs.h"

#include "quant/block_format.h"

namespace shoehorn::quant::iq4_xs {
namespace {

constexpr SymmetricFormat kFormat{.n_sub = 8,
                                  .sub_size = 32,
                                  .lo = -127,
                                  .hi = 113,
                                  .codebook = kIq4Levels,
                                  .scale_lo = -32,
                                  .scale_hi = 31,
                                  .rms_share = 0.5f,
                                  .shrink = 30.0f,
                                  .grow = 25.0f,
                                  .step = 5.0f};

void pack(const SymmetricResult& result, Block& out) {
  out.d = result.d;
  for (size_t s = 0; s < 8; ++s) {
    const int scale = result.scale[s] + 32;
    out.scales_l[s / 2] = static_cast<uint8_t>(out.scales_l[s / 2] | ((scale & 15) << (4 * (s % 2))));
    out.scales_h = static_cast<uint16_t>(out.scales_h | ((scale >> 4) << (2 * s)));
    for (size_t i = 0; i < 16; ++i) {
      out.qs[16 * s + i] = static_cast<uint8_t>(result.code[32 * s + i] | (result.code[32 * s + 16 + i] << 4));
    }
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::iq4_xs
