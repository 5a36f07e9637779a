// Strings of templates: UTF-8 with Python's notions of length, case and whitespace. Invalid bytes count as one
// character.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace shoehorn::tokenizer::jinja {

/// Bytes of the character that starts at `pos` (< text.size()); 1 for a byte that starts none.
size_t char_bytes(std::string_view text, size_t pos);
size_t count_chars(std::string_view text);
/// The last character of a text that is not empty.
std::string_view last_char(std::string_view text);

/// True when the character is whitespace in ECMAScript's and (but for a few controls) Python's sense.
bool is_space(std::string_view character);
std::string_view trim_left(std::string_view text);
std::string_view trim_right(std::string_view text);
inline std::string_view trim(std::string_view text) { return trim_left(trim_right(text)); }
/// Strips any of the characters in `set`.
std::string_view trim_left(std::string_view text, std::string_view set);
std::string_view trim_right(std::string_view text, std::string_view set);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
/// The first character in upper case, the rest as it is.
std::string capitalize(std::string_view text);
/// The first letter of every word in upper case, the rest as it is.
std::string title_case(std::string_view text);
std::string html_escape(std::string_view text);

/// Position of `needle` at or after `from`, or npos; linear time whatever the texts are.
size_t find_text(std::string_view text, std::string_view needle, size_t from = 0);

/// The shortest digits that read back as the same double, laid out as ECMAScript's Number::toString does; with
/// `keep_float`, "2.0" for 2.
std::string format_double(double value, bool keep_float);

/// strftime with English names, whatever the locale; unknown directives stay as they are.
std::string format_time(std::string_view format, const std::tm& time);

}  // namespace shoehorn::tokenizer::jinja
