#include "quant/q5_1.h"

#include "quant/block_format.h"

namespace shoehorn::quant::q5_1 {
namespace {

constexpr AffineFormat kFormat{.n_sub = 1,
                               .sub_size = 32,
                               .hi = 31,
                               .scale_hi = 1,
                               .rms_share = 4.0f,
                               .shrink = 3.0f,
                               .grow = 1.0f,
                               .step = 0.2f};

void pack(const AffineResult& result, Block& out) {
  out.d = result.d;
  out.m = result.dmin ^ 0x8000u;  // m is added, a min subtracted
  gather_fifth_bits(result.code, out.qh);
  for (size_t i = 0; i < 16; ++i) {
    out.qs[i] = static_cast<uint8_t>((result.code[i] & 15) | ((result.code[16 + i] & 15) << 4));
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::q5_1
