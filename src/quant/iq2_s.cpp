#include "quant/iq2_s.h"

#include "quant/block_format.h"

namespace shoehorn::quant::iq2_s {
namespace {

constexpr CodebookFormat kFormat{.n_sub = 16,
                                 .sub_size = 16,
                                 .entry_size = 8,
                                 .n_levels = 3,
                                 .level = kIq2Levels,
                                 .lowest = 8,
                                 .step = 17.5f,
                                 .near = near_iq2_s,
                                 .signs = CodebookFormat::Signs::kFree,
                                 .delta_size = 0,
                                 .scale_hi = 15,
                                 .factor = 0.125f,
                                 .rms_share = 1.0f,
                                 .first_reach = 26,
                                 .last_reach = 66};

void pack(const CodebookResult& result, Block& out) {
  out.d = result.d;
  for (size_t i = 0; i < 32; ++i) {
    out.qs[i] = static_cast<uint8_t>(result.entry[i]);
    out.qh[i / 4] = static_cast<uint8_t>(out.qh[i / 4] | (result.entry[i] >> 8) << (2 * (i % 4)));
    out.signs[i] = result.signs[i];
  }
  for (size_t i = 0; i < 8; ++i)
    out.scales[i] = static_cast<uint8_t>(result.scale[2 * i] | result.scale[2 * i + 1] << 4);
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::iq2_s
