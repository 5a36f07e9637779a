#include "quant/q3_k.h"

#include "quant/block_format.h"

namespace shoehorn::quant::q3_k {
namespace {

constexpr SymmetricFormat kFormat{.n_sub = 16,
                                  .sub_size = 16,
                                  .lo = -4,
                                  .hi = 3,
                                  .codebook = nullptr,
                                  .scale_lo = -32,
                                  .scale_hi = 31,
                                  .rms_share = 1.0f,
                                  .shrink = 1.5f,
                                  .grow = 1.5f,
                                  .step = 0.3f};

void pack(const SymmetricResult& result, Block& out) {
  out.d = result.d;
  for (size_t i = 0; i < 4; ++i) {
    const auto scale = [&](size_t s) { return result.scale[s] + 32; };
    out.scales[i] = static_cast<uint8_t>((scale(i) & 15) | ((scale(8 + i) & 15) << 4));
    out.scales[4 + i] = static_cast<uint8_t>((scale(4 + i) & 15) | ((scale(12 + i) & 15) << 4));
    out.scales[8 + i] = static_cast<uint8_t>((scale(i) >> 4) | ((scale(4 + i) >> 4) << 2) | ((scale(8 + i) >> 4) << 4) |
                                             ((scale(12 + i) >> 4) << 6));
  }
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* code = result.code + 128 * half;
    for (size_t i = 0; i < 32; ++i) {
      out.qs[32 * half + i] = static_cast<uint8_t>((code[i] & 3) | ((code[32 + i] & 3) << 2) |
                                                   ((code[64 + i] & 3) << 4) | ((code[96 + i] & 3) << 6));
    }
  }
  for (size_t i = 0; i < 32; ++i) {
    for (size_t k = 0; k < 8; ++k) {
      out.hmask[i] = static_cast<uint8_t>(out.hmask[i] | ((result.code[32 * k + i] >> 2) << k));
    }
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::q3_k
