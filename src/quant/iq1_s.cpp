#include "quant/iq1_s.h"

#include "quant/block_format.h"

namespace shoehorn::quant::iq1_s {
namespace {

constexpr CodebookFormat kFormat{.n_sub = 8,
                                 .sub_size = 32,
                                 .entry_size = 8,
                                 .n_levels = 3,
                                 .level = kIq1Levels,
                                 .lowest = -8,
                                 .step = 8,
                                 .near = near_iq1,
                                 .signs = CodebookFormat::Signs::kInLevels,
                                 .delta_size = 32,
                                 .scale_hi = 7,
                                 .factor = 0.125f,
                                 .rms_share = 0.4f,
                                 .first_reach = 5,
                                 .last_reach = 18};

void pack(const CodebookResult& result, Block& out) {
  out.d = result.d;
  for (size_t i = 0; i < 32; ++i) {
    out.qs[i] = static_cast<uint8_t>(result.entry[i]);
    out.qh[i / 4] = static_cast<uint16_t>(out.qh[i / 4] | (result.entry[i] >> 8) << (3 * (i % 4)));
  }
  for (size_t s = 0; s < 8; ++s) {
    out.qh[s] = static_cast<uint16_t>(out.qh[s] | result.scale[s] << 12 | (result.down[4 * s] ? 0x8000 : 0));
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::iq1_s
