#include "quant/iq2_xxs.h"

#include "quant/block_format.h"

namespace shoehorn::quant::iq2_xxs {
namespace {

constexpr CodebookFormat kFormat{.n_sub = 8,
                                 .sub_size = 32,
                                 .entry_size = 8,
                                 .n_levels = 3,
                                 .level = kIq2Levels,
                                 .lowest = 8,
                                 .step = 17.5f,
                                 .near = near_iq2_xxs,
                                 .signs = CodebookFormat::Signs::kEven,
                                 .delta_size = 0,
                                 .scale_hi = 15,
                                 .factor = 0.125f,
                                 .rms_share = 0.4f,
                                 .first_reach = 26,
                                 .last_reach = 66};

void pack(const CodebookResult& result, Block& out) {
  out.d = result.d;
  for (size_t s = 0; s < 8; ++s) {
    uint32_t packed = static_cast<uint32_t>(result.scale[s]) << 28;
    for (size_t i = 0; i < 4; ++i) {
      out.sub[s].index[i] = static_cast<uint8_t>(result.entry[4 * s + i]);
      packed |= static_cast<uint32_t>(result.signs[4 * s + i] & 127) << (7 * i);
    }
    out.sub[s].signs_and_scale = packed;
  }
}

}  // namespace

Format table_row(Type type, const char* gguf_name) {
  return searched_format<Block, unpack, kFormat, pack>(type, gguf_name);
}

}  // namespace shoehorn::quant::iq2_xxs
