#include "report/markup.h"

#include <cassert>
#include <cstdint>

#include "tokenizer/unicode.h"

namespace shoehorn::report {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
constexpr std::string_view kEllipsis = "\xe2\x80\xa6";     // U+2026

/// Characters that XML forbids, or that change how the text around them is shown.
bool is_unfit(uint32_t cp) {
  if (cp < 0x20) return cp != '\n' && cp != '\t';
  if (cp >= 0x7f && cp < 0xa0) return true;
  if (cp >= 0x202a && cp <= 0x202e) return true;
  if (cp >= 0x2066 && cp <= 0x2069) return true;
  return cp == 0xfffe || cp == 0xffff;
}

}  // namespace

std::string escape(std::string_view text, size_t max_chars) {
  std::string out;
  size_t n_chars = 0;
  for (size_t at = 0; at < text.size(); ++n_chars) {
    if (n_chars == max_chars) return out += kEllipsis;
    uint32_t cp = 0;
    const size_t length = tokenizer::utf8_sequence(text, at, cp);
    if (length == 0 || is_unfit(cp)) {
      out += kReplacement;
      at += length == 0 ? 1 : length;
      continue;
    }
    switch (cp) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += text.substr(at, length);
    }
    at += length;
  }
  return out;
}

void Markup::start(std::string_view tag, Attributes attributes) {
  out_ += '<';
  out_ += tag;
  for (const Attribute& attribute : attributes) {
    out_ += ' ';
    out_ += attribute.name;
    out_ += "=\"";
    // Paths of SVG are long, and ours.
    out_ += attribute.name == "d" || attribute.name == "points" ? attribute.value : escape(attribute.value);
    out_ += '"';
  }
}

Markup& Markup::open(std::string_view tag, Attributes attributes) {
  start(tag, attributes);
  out_ += '>';
  open_.emplace_back(tag);
  return *this;
}

Markup& Markup::close() {
  assert(!open_.empty());
  out_ += "</" + open_.back() + ">";
  open_.pop_back();
  return *this;
}

Markup& Markup::empty(std::string_view tag, Attributes attributes) {
  start(tag, attributes);
  out_ += "/>";
  return *this;
}

Markup& Markup::element(std::string_view tag, std::string_view text, Attributes attributes) {
  return open(tag, attributes).text(text).close();
}

Markup& Markup::text(std::string_view text, size_t max_chars) {
  out_ += escape(text, max_chars);
  return *this;
}

Markup& Markup::add(const Markup& other) { return verbatim(other.str()); }

Markup& Markup::verbatim(std::string_view text) {
  out_ += text;
  return *this;
}

const std::string& Markup::str() const {
  assert(open_.empty());
  return out_;
}

}  // namespace shoehorn::report
