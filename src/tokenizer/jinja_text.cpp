#include "tokenizer/jinja_text.h"

#include <fmt/format.h>
#include <string.h>
#include <utf8proc.h>

#include <array>
#include <charconv>
#include <cmath>

namespace shoehorn::tokenizer::jinja {
namespace {

// The code point at the start of `text`, or -1 for a byte that starts none.
int32_t decode(std::string_view text) {
  utf8proc_int32_t code = -1;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &code);
  return code;
}

void append_code(std::string& out, int32_t code) {
  std::array<utf8proc_uint8_t, 4> buffer;
  const auto n = utf8proc_encode_char(code, buffer.data());
  out.append(reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(n));
}

bool is_word(std::string_view character) {
  const char c = character[0];
  return character.size() == 1 &&
         ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_');
}

void append_upper(std::string& out, std::string_view character) {
  const int32_t code = decode(character);
  if (code < 0) {
    out += character;
  } else if (code == 0xDF) {
    out += "SS";
  } else {
    append_code(out, utf8proc_toupper(code));
  }
}

}  // namespace

size_t char_bytes(std::string_view text, size_t pos) {
  if (static_cast<unsigned char>(text[pos]) < 0x80) return 1;
  utf8proc_int32_t code = -1;
  const auto n = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + pos),
                                  static_cast<utf8proc_ssize_t>(text.size() - pos), &code);
  return n > 0 ? static_cast<size_t>(n) : 1;
}

size_t count_chars(std::string_view text) {
  size_t n = 0;
  for (size_t pos = 0; pos < text.size(); pos += char_bytes(text, pos)) ++n;
  return n;
}

std::string_view last_char(std::string_view text) {
  for (size_t n = 1; n <= 4 && n <= text.size(); ++n) {
    const size_t start = text.size() - n;
    if ((static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) continue;
    return char_bytes(text, start) == n ? text.substr(start) : text.substr(text.size() - 1);
  }
  return text.substr(text.size() - 1);
}

bool is_space(std::string_view character) {
  const auto c = static_cast<unsigned char>(character[0]);
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  const int32_t code = decode(character);
  return code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000 || code == 0xFEFF;
}

std::string_view trim_left(std::string_view text) {
  while (!text.empty()) {
    const size_t n = char_bytes(text, 0);
    if (!is_space(text.substr(0, n))) break;
    text.remove_prefix(n);
  }
  return text;
}

namespace {

bool contains_char(std::string_view set, std::string_view character) {
  for (size_t pos = 0; pos < set.size();) {
    const size_t n = char_bytes(set, pos);
    if (set.substr(pos, n) == character) return true;
    pos += n;
  }
  return false;
}

}  // namespace

std::string_view trim_right(std::string_view text) {
  while (!text.empty()) {
    const std::string_view last = last_char(text);
    if (!is_space(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::string_view trim_left(std::string_view text, std::string_view set) {
  while (!text.empty()) {
    const size_t n = char_bytes(text, 0);
    if (!contains_char(set, text.substr(0, n))) break;
    text.remove_prefix(n);
  }
  return text;
}

std::string_view trim_right(std::string_view text, std::string_view set) {
  while (!text.empty()) {
    const std::string_view last = last_char(text);
    if (!contains_char(set, last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t n = char_bytes(text, pos);
    append_upper(out, text.substr(pos, n));
    pos += n;
  }
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t n = char_bytes(text, pos);
    const int32_t code = decode(text.substr(pos, n));
    if (code < 0) {
      out += text.substr(pos, n);
    } else {
      append_code(out, utf8proc_tolower(code));
    }
    pos += n;
  }
  return out;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const size_t n = char_bytes(text, 0);
  std::string out;
  append_upper(out, text.substr(0, n));
  out += text.substr(n);
  return out;
}

std::string title_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool inside_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const size_t n = char_bytes(text, pos);
    const std::string_view c = text.substr(pos, n);
    if (is_word(c) && !inside_word) {
      append_upper(out, c);
    } else {
      out += c;
    }
    inside_word = is_word(c);
    pos += n;
  }
  return out;
}

std::string html_escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

size_t find_text(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  constexpr size_t kShort = 32;  // so short that the simple search cannot take long
  if (needle.size() <= kShort) return text.find(needle, from);
  const void* at = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return at == nullptr ? std::string_view::npos : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

std::string format_double(double value, bool keep_float) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  if (value == 0) return keep_float ? (std::signbit(value) ? "-0.0" : "0.0") : "0";
  std::array<char, 40> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::fabs(value), std::chars_format::scientific);
  const std::string_view scientific(buffer.data(), static_cast<size_t>(end.ptr - buffer.data()));
  const size_t e = scientific.find('e');
  std::string digits(scientific.substr(0, e));
  std::erase(digits, '.');
  int exponent = 0;
  const std::string_view exponent_text = scientific.substr(e + (scientific[e + 1] == '+' ? 2 : 1));
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
  const int count = static_cast<int>(digits.size());
  const int point = exponent + 1;  // digits before the decimal point
  std::string out = value < 0 ? "-" : "";
  if (point > 21 || point <= -6) {
    out += digits[0];
    if (count > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{:+}", exponent);
  }
  if (point >= count)
    return out + digits + std::string(static_cast<size_t>(point - count), '0') + (keep_float ? ".0" : "");
  if (point > 0)
    return out + digits.substr(0, static_cast<size_t>(point)) + "." + digits.substr(static_cast<size_t>(point));
  return out + "0." + std::string(static_cast<size_t>(-point), '0') + digits;
}

std::string format_time(std::string_view format, const std::tm& t) {
  static constexpr std::array<const char*, 12> kMonths = {"January",   "February", "March",    "April",
                                                          "May",       "June",     "July",     "August",
                                                          "September", "October",  "November", "December"};
  static constexpr std::array<const char*, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                       "Thursday", "Friday", "Saturday"};
  // A tm may come from anywhere.
  const std::string_view month = kMonths[static_cast<size_t>(t.tm_mon >= 0 && t.tm_mon < 12 ? t.tm_mon : 0)];
  const std::string_view day = kDays[static_cast<size_t>(t.tm_wday >= 0 && t.tm_wday < 7 ? t.tm_wday : 0)];
  const int hour12 = t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12;
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    const bool no_padding = format[i + 1] == '-' && i + 2 < format.size();
    const char directive = format[i + (no_padding ? 2 : 1)];
    const auto two = [&](int n) { return no_padding ? fmt::format("{}", n) : fmt::format("{:02}", n); };
    std::string piece;
    switch (directive) {
      case 'Y':
        piece = fmt::format("{}", t.tm_year + 1900);
        break;
      case 'y':
        piece = two((t.tm_year % 100 + 100) % 100);
        break;
      case 'm':
        piece = two(t.tm_mon + 1);
        break;
      case 'd':
        piece = two(t.tm_mday);
        break;
      case 'H':
        piece = two(t.tm_hour);
        break;
      case 'I':
        piece = two(hour12);
        break;
      case 'M':
        piece = two(t.tm_min);
        break;
      case 'S':
        piece = two(t.tm_sec);
        break;
      case 'j':
        piece = no_padding ? fmt::format("{}", t.tm_yday + 1) : fmt::format("{:03}", t.tm_yday + 1);
        break;
      case 'e':
        piece = fmt::format("{:2}", t.tm_mday);
        break;
      case 'p':
        piece = t.tm_hour < 12 ? "AM" : "PM";
        break;
      case 'B':
        piece = month;
        break;
      case 'b':
        piece = month.substr(0, 3);
        break;
      case 'A':
        piece = day;
        break;
      case 'a':
        piece = day.substr(0, 3);
        break;
      case 'F':
        piece = fmt::format("{}-{:02}-{:02}", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday);
        break;
      case 'T':
        piece = fmt::format("{:02}:{:02}:{:02}", t.tm_hour, t.tm_min, t.tm_sec);
        break;
      case '%':
        piece = "%";
        break;
      default:
        out += '%';
        continue;
    }
    out += piece;
    i += no_padding ? 2 : 1;
  }
  return out;
}

}  // namespace shoehorn::tokenizer::jinja
