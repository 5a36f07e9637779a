#include "quant/iq4_nl.h"

#include "quant/block_format.h"

namespace shoehorn::quant::iq4_nl {
namespace {

constexpr SymmetricFormat kFormat{.n_sub = 1,
                                  .sub_size = 32,
                                  .lo = -127,
                                  .hi = 113,
                                  .codebook = kIq4Levels,
                                  .scale_lo = 1,
                                  .scale_hi = 1,
                                  .rms_share = 0.5f,
                                  .shrink = 30.0f,
                                  .grow = 25.0f,
                                  .step = 5.0f};

void pack(const SymmetricResult& result, Block& out) {
  out.d = result.d;
  for (size_t i = 0; i < 16; ++i) {
    out.qs[i] = static_cast<uint8_t>((result.code[i] & 15) | ((result.code[16 + i] & 15) << 4));
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::iq4_nl
