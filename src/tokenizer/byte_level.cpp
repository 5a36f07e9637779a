#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "tokenizer/unicode.h"

namespace shoehorn::tokenizer {
namespace {

struct Alphabet {
  std::array<uint32_t, 256> code_points{};
  std::array<int16_t, 0x144> bytes{};  // by code point, -1 where there is none

  Alphabet() {
    bytes.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      code_points[b] = printable ? b : next++;
      bytes[code_points[b]] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string byte_level_encode(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const uint32_t cp = alphabet().code_points[static_cast<uint8_t>(c)];
    if (cp < 0x80) {
      out += static_cast<char>(cp);
    } else {
      out += static_cast<char>(0xc0 | cp >> 6);
      out += static_cast<char>(0x80 | (cp & 0x3f));
    }
  }
  return out;
}

std::optional<std::string> byte_level_decode(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    uint32_t cp = 0;
    const size_t n = utf8_sequence(text, pos, cp);
    if (n == 0 || cp >= alphabet().bytes.size() || alphabet().bytes[cp] < 0) return std::nullopt;
    out += static_cast<char>(alphabet().bytes[cp]);
    pos += n;
  }
  return out;
}

}  // namespace shoehorn::tokenizer
