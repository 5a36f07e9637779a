#include "quant/iq1_m.h"

#include "quant/block_format.h"

namespace shoehorn::quant::iq1_m {
namespace {

constexpr CodebookFormat kFormat{.n_sub = 16,
                                 .sub_size = 16,
                                 .entry_size = 8,
                                 .n_levels = 3,
                                 .level = kIq1Levels,
                                 .lowest = -8,
                                 .step = 8,
                                 .near = near_iq1,
                                 .signs = CodebookFormat::Signs::kInLevels,
                                 .delta_size = 8,
                                 .scale_hi = 7,
                                 .factor = 0.125f,
                                 .rms_share = 0.4f,
                                 .first_reach = 5,
                                 .last_reach = 18};

void pack(const CodebookResult& result, Block& out) {
  for (size_t i = 0; i < 32; ++i) {
    const int high = result.entry[i] >> 8 | (result.down[i] ? 8 : 0);
    out.qs[i] = static_cast<uint8_t>(result.entry[i]);
    out.qh[i / 2] = static_cast<uint8_t>(out.qh[i / 2] | high << (4 * (i % 2)));
  }
  for (size_t g = 0; g < 16; ++g) {
    const int nibble = (result.d >> (4 * (g / 4))) & 15;
    out.scales[g / 4] = static_cast<uint16_t>(out.scales[g / 4] | result.scale[g] << (3 * (g % 4)) | nibble << 12);
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::iq1_m
