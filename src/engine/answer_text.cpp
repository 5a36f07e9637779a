#include "engine/answer_text.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace shoehorn::engine {
namespace {

/// Where a character that is not whole yet begins at the end of a text; its size when there is none.
size_t whole_characters(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace

AnswerText::AnswerText(std::vector<std::string> stops) : stops_(std::move(stops)) { std::erase(stops_, ""); }

bool AnswerText::add(std::string_view piece) {
  const size_t before = text_.size();
  text_ += piece;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t from = before >= stop.size() - 1 ? before - (stop.size() - 1) : 0;
    end = std::min(end, text_.find(stop, from));
  }
  if (end == std::string::npos) return true;
  text_.resize(end);
  return false;
}

size_t AnswerText::safe_end() const {
  size_t end = whole_characters(text_);
  for (const std::string& stop : stops_) {
    // The longest end of the text that begins the stop.
    for (size_t n = std::min(stop.size() - 1, text_.size()); n > 0; --n) {
      if (text_.compare(text_.size() - n, n, stop, 0, n) != 0) continue;
      end = std::min(end, text_.size() - n);
      break;
    }
  }
  return end;
}

std::string AnswerText::take() {
  const size_t end = safe_end();
  if (end <= taken_) return "";
  std::string out = valid_utf8(std::string_view(text_).substr(taken_, end - taken_));
  taken_ = end;
  return out;
}

std::string AnswerText::rest() {
  std::string out = taken_ < text_.size() ? valid_utf8(std::string_view(text_).substr(taken_)) : "";
  taken_ = text_.size();
  return out;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    uint32_t cp = 0;
    const size_t n = tokenizer::utf8_sequence(text, pos, cp);
    if (n > 0) {
      out += text.substr(pos, n);
      pos += n;
    } else {
      out += "\xEF\xBF\xBD";
      ++pos;
    }
  }
  return out;
}

}  // namespace shoehorn::engine
