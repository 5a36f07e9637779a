#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <array>

namespace shoehorn::tokenizer {
namespace {

Char properties(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return kLetter | kUpper;
    case UTF8PROC_CATEGORY_LL:
      return kLetter | kLower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLetter;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return kSymbol;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return kSpace;
    default:
      return 0;
  }
}

Char classify_slowly(uint32_t cp) {
  Char c = cp | properties(utf8proc_category(static_cast<utf8proc_int32_t>(cp)));
  // The controls among White_Space.
  if ((cp >= '\t' && cp <= '\r') || cp == 0x85) c |= kSpace;
  return c;
}

}  // namespace

Char classify(uint32_t cp) {
  static const std::array<Char, 128> ascii = [] {
    std::array<Char, 128> table{};
    for (uint32_t i = 0; i < table.size(); ++i) table[i] = classify_slowly(i);
    return table;
  }();
  return cp < ascii.size() ? ascii[cp] : classify_slowly(cp);
}

size_t utf8_sequence(std::string_view text, size_t pos, uint32_t& cp) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[pos + i]); };
  const size_t left = text.size() - pos;
  const uint8_t lead = byte(0);
  if (lead < 0x80) {
    cp = lead;
    return 1;
  }
  const size_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || n > left) return 0;
  uint32_t value = lead & (0x7fu >> n);
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    value = value << 6 | (byte(i) & 0x3fu);
  }
  if (n == 3 && (value < 0x800 || (value >= 0xd800 && value < 0xe000))) return 0;
  if (n == 4 && (value < 0x10000 || value > 0x10ffff)) return 0;
  cp = value;
  return n;
}

std::vector<Char> to_chars(std::string_view text) {
  std::vector<Char> chars;
  chars.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    uint32_t cp = 0;
    const size_t n = utf8_sequence(text, pos, cp);
    if (n == 0) {
      chars.push_back(static_cast<uint8_t>(text[pos]) | kInvalid | kSymbol);
      ++pos;
    } else {
      chars.push_back(classify(cp));
      pos += n;
    }
  }
  return chars;
}

}  // namespace shoehorn::tokenizer
