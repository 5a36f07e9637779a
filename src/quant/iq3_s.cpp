#include "quant/iq3_s.h"

#include "quant/block_format.h"

namespace shoehorn::quant::iq3_s {
namespace {

constexpr CodebookFormat kFormat{.n_sub = 8,
                                 .sub_size = 32,
                                 .entry_size = 4,
                                 .n_levels = 8,
                                 .level = kIq3SLevels,
                                 .lowest = 1,
                                 .step = 2,
                                 .near = near_iq3_s,
                                 .signs = CodebookFormat::Signs::kFree,
                                 .delta_size = 0,
                                 .scale_hi = 15,
                                 .factor = 1,
                                 .rms_share = 1.0f,
                                 .first_reach = 8,
                                 .last_reach = 20};

void pack(const CodebookResult& result, Block& out) {
  out.d = result.d;
  for (size_t i = 0; i < 64; ++i) {
    out.qs[i] = static_cast<uint8_t>(result.entry[i]);
    out.qh[i / 8] = static_cast<uint8_t>(out.qh[i / 8] | (result.entry[i] >> 8) << (i % 8));
  }
  for (size_t i = 0; i < 32; ++i) out.signs[i] = result.signs[i];
  for (size_t i = 0; i < 4; ++i)
    out.scales[i] = static_cast<uint8_t>(result.scale[2 * i] | result.scale[2 * i + 1] << 4);
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::iq3_s
