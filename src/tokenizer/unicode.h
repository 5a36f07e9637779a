// Text as characters with the Unicode properties that pre-tokenizers ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace shoehorn::tokenizer {

/// One character: a code point in the low 21 bits and its properties above them. A byte that is not part of valid UTF-8
/// is a character of its own: the byte's value with kInvalid, and a symbol as U+FFFD is.
using Char = uint32_t;

inline constexpr Char kLetter = 1u << 21;       // \p{L}
inline constexpr Char kUpper = 1u << 22;        // \p{Lu}, \p{Lt}
inline constexpr Char kLower = 1u << 23;        // \p{Ll}
inline constexpr Char kMark = 1u << 24;         // \p{M}
inline constexpr Char kNumber = 1u << 25;       // \p{N}
inline constexpr Char kPunctuation = 1u << 26;  // \p{P}
inline constexpr Char kSymbol = 1u << 27;       // \p{S}
inline constexpr Char kSpace = 1u << 28;        // \s: White_Space
inline constexpr Char kInvalid = 1u << 29;

/// True when the character has one of the properties in `mask`.
constexpr bool is(Char c, Char mask) { return (c & mask) != 0; }
constexpr uint32_t code_point(Char c) { return c & 0x1fffffu; }

/// The number of bytes the character takes in the text it came from.
constexpr size_t char_bytes(Char c) {
  const uint32_t cp = code_point(c);
  if (cp < 0x80 || is(c, kInvalid)) return 1;
  return cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
}

/// The length of the valid UTF-8 sequence that starts at text[pos], or 0 when there is none (overlong forms, surrogates
/// and values past U+10FFFF are not valid). Sets cp when it is valid.
size_t utf8_sequence(std::string_view text, size_t pos, uint32_t& cp);

/// The properties of a code point.
Char classify(uint32_t cp);

/// The characters of a text, in order; their char_bytes() add up to text.size().
std::vector<Char> to_chars(std::string_view text);

}  // namespace shoehorn::tokenizer
