// Sets of Unicode characters, and the bytes that they are in UTF-8.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoehorn::grammar {

/// Characters from `first` to `last`, both included.
struct CodePoints {
  uint32_t first, last;
};
inline constexpr uint32_t kLastCodePoint = 0x10FFFF;

/// In order, without overlaps; the surrogates, which are no characters, left out.
std::vector<CodePoints> normalized(std::vector<CodePoints> set);
/// All characters that are not in a normalized set.
std::vector<CodePoints> complement(const std::vector<CodePoints>& set);

/// One byte range per byte of a character.
struct ByteSequence {
  std::array<uint8_t, 4> low, high;
  int size;
};
/// What a normalized set is in UTF-8: every sequence of these ranges is one of its characters, and the reverse.
std::vector<ByteSequence> utf8_sequences(const std::vector<CodePoints>& set);

/// The characters of valid UTF-8.
std::vector<uint32_t> code_points(std::string_view text);
/// 0 to 15; -1 for what is no hexadecimal digit.
int hexadecimal_digit(char c);
/// Appends a character as UTF-8.
void append_utf8(std::string& text, uint32_t code_point);

}  // namespace shoehorn::grammar
