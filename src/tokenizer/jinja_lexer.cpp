#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <array>

#include "tokenizer/jinja_text.h"
#include "tokenizer/jinja_value.h"

namespace shoehorn::tokenizer::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

// "\r\n" and "\r" become "\n", and one newline at the end goes, as in Jinja.
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize(source)) {}

  Expected<std::vector<Token>> run() {
    while (pos_ < source_.size()) {
      const size_t tag = find_tag(pos_);
      const bool at_end = tag == std::string::npos;
      take_text(at_end ? source_.size() : tag, at_end ? ' ' : source_[tag + 1], at_end ? ' ' : peek(tag + 2));
      if (at_end) break;
      after_ = After::kKeep;
      if (source_[tag + 1] == '#') {
        SHOEHORN_RETURN_IF_ERROR(skip_comment());
      } else {
        SHOEHORN_TRY(const bool raw, take_raw());
        if (!raw) SHOEHORN_RETURN_IF_ERROR(take_tag());
      }
    }
    push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  enum class After { kKeep, kDropNewline, kDropSpace };  // what the last tag does to the text behind it

  char peek(size_t at) const { return at < source_.size() ? source_[at] : '\0'; }
  bool starts(std::string_view text) const { return std::string_view(source_).substr(pos_).starts_with(text); }
  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(pos_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    pos_ = to;
  }

  size_t find_tag(size_t from) const {
    for (size_t at = source_.find('{', from); at != std::string::npos; at = source_.find('{', at + 1)) {
      const char next = peek(at + 1);
      if (next == '%' || next == '{' || next == '#') return at;
    }
    return std::string::npos;
  }

  // The text up to `end`, where a tag of the given kind ('%', '{', '#'; ' ' for the end of the source) starts;
  // `control` is the character behind the tag's opening.
  void take_text(size_t end, char tag, char control) {
    size_t first = pos_;
    size_t last = end;
    const auto view = [&] { return std::string_view(source_).substr(first, last - first); };
    if (after_ == After::kDropSpace) {
      last = end;
      first += view().size() - trim_left(view()).size();
    } else if (after_ == After::kDropNewline && first < last && source_[first] == '\n') {
      ++first;
    }
    if (tag != ' ' && control == '-') {
      last = first + trim_right(view()).size();
    } else if ((tag == '%' || tag == '#') && control != '+') {
      size_t blank = last;
      while (blank > pos_ && (source_[blank - 1] == ' ' || source_[blank - 1] == '\t')) --blank;
      if (blank == 0 || source_[blank - 1] == '\n') last = std::max(first, blank);
    }
    if (last > first) push(TokenKind::kText, std::string(view()));
    advance(end);
  }

  Status skip_comment() {
    const size_t close = source_.find("#}", pos_ + 2);
    if (close == std::string::npos) return fail(ErrorCode::kInvalid, "line {}: the comment has no end", line_);
    const bool dash = close > pos_ + 2 && source_[close - 1] == '-';
    const bool plus = close > pos_ + 2 && source_[close - 1] == '+';
    after_ = dash ? After::kDropSpace : plus ? After::kKeep : After::kDropNewline;
    advance(close + 2);
    return {};
  }

  // The length of "{%- NAME -%}" at `at`, or 0; sets the controls at both ends.
  size_t match_simple_tag(size_t at, std::string_view name, char* open_control, char* close_control) const {
    size_t p = at + 2;
    *open_control = peek(p);
    if (*open_control == '-' || *open_control == '+') ++p;
    while (is_blank(peek(p))) ++p;
    if (std::string_view(source_).substr(std::min(p, source_.size()), name.size()) != name) return 0;
    p += name.size();
    while (is_blank(peek(p))) ++p;
    *close_control = peek(p);
    if (*close_control == '-' || *close_control == '+') ++p;
    if (peek(p) != '%' || peek(p + 1) != '}') return 0;
    return p + 2 - at;
  }

  Expected<bool> take_raw() {
    char open = 0;
    char close = 0;
    if (!starts("{%")) return false;
    const size_t length = match_simple_tag(pos_, "raw", &open, &close);
    if (length == 0) return false;
    const int begin_line = line_;
    advance(pos_ + length);
    after_ = close == '-' ? After::kDropSpace : After::kKeep;
    for (size_t at = source_.find("{%", pos_); at != std::string::npos; at = source_.find("{%", at + 2)) {
      const size_t end_length = match_simple_tag(at, "endraw", &open, &close);
      if (end_length == 0) continue;
      take_text(at, '%', open);
      advance(at + end_length);
      after_ = close == '-' ? After::kDropSpace : close == '+' ? After::kKeep : After::kDropNewline;
      return true;
    }
    return fail(ErrorCode::kInvalid, "line {}: {{% raw %}} has no {{% endraw %}}", begin_line);
  }

  Status take_tag() {
    const bool block = source_[pos_ + 1] == '%';
    const int begin_line = line_;
    push(block ? TokenKind::kBlockBegin : TokenKind::kPrintBegin, block ? "{%" : "{{");
    pos_ += 2;
    if (peek(pos_) == '-' || (block && peek(pos_) == '+')) ++pos_;
    int open_brackets = 0;
    while (true) {
      size_t p = pos_;
      while (is_blank(peek(p))) ++p;
      advance(std::min(p, source_.size()));
      if (pos_ >= source_.size()) {
        return fail(ErrorCode::kInvalid, "line {}: the tag that starts with {} has no end", begin_line,
                    block ? "{%" : "{{");
      }
      if (open_brackets == 0) {
        const std::string_view close = block ? "%}" : "}}";
        const bool sign = source_[pos_] == '-' || (block && source_[pos_] == '+');
        if (std::string_view(source_).substr(pos_ + (sign ? 1 : 0)).starts_with(close)) {
          after_ = source_[pos_] == '-' ? After::kDropSpace : block && !sign ? After::kDropNewline : After::kKeep;
          push(block ? TokenKind::kBlockEnd : TokenKind::kPrintEnd, std::string(close));
          pos_ += close.size() + (sign ? 1 : 0);
          return {};
        }
      }
      SHOEHORN_RETURN_IF_ERROR(take_token(&open_brackets));
    }
  }

  Status take_token(int* open_brackets) {
    const char c = source_[pos_];
    if (is_name_start(c)) {
      size_t end = pos_;
      while (is_name_start(peek(end)) || is_digit(peek(end))) ++end;
      push(TokenKind::kName, source_.substr(pos_, end - pos_));
      pos_ = end;
      return {};
    }
    if (is_digit(c)) return take_number();
    if (c == '\'' || c == '"') return take_string();
    static constexpr std::array<std::string_view, 25> kOperators = {"**", "//", "==", "!=", "<=", ">=", "+", "-", "*",
                                                                    "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                                                    "]",  "{",  "}",  ",",  ".",  ":",  "|"};
    for (const std::string_view op : kOperators) {
      if (!starts(op)) continue;
      if (op == "(" || op == "[" || op == "{") ++*open_brackets;
      if ((op == ")" || op == "]" || op == "}") && *open_brackets > 0) --*open_brackets;
      push(TokenKind::kOperator, std::string(op));
      pos_ += op.size();
      return {};
    }
    const std::string_view character = std::string_view(source_).substr(pos_, char_bytes(source_, pos_));
    return fail(ErrorCode::kInvalid, "line {}: unexpected character '{}'", line_, character);
  }

  Status take_number() {
    size_t end = pos_;
    const auto digits = [&] {
      while (is_digit(peek(end)) || (peek(end) == '_' && is_digit(peek(end + 1)))) ++end;
    };
    digits();
    bool is_float = false;
    // After a dot it is an index: items.0.1
    const bool index = tokens_.back().kind == TokenKind::kOperator && tokens_.back().text == ".";
    if (!index && peek(end) == '.' && is_digit(peek(end + 1))) {
      is_float = true;
      ++end;
      digits();
    }
    const size_t sign = peek(end + 1) == '+' || peek(end + 1) == '-' ? 1 : 0;
    if (!index && (peek(end) == 'e' || peek(end) == 'E') && is_digit(peek(end + 1 + sign))) {
      is_float = true;
      end += 1 + sign;
      digits();
    }
    std::string text = source_.substr(pos_, end - pos_);
    std::erase(text, '_');
    push(is_float ? TokenKind::kFloat : TokenKind::kInt, std::move(text));
    pos_ = end;
    return {};
  }

  Status take_string() {
    const char quote = source_[pos_];
    const int begin_line = line_;
    std::string text;
    size_t p = pos_ + 1;
    for (; p < source_.size() && source_[p] != quote; ++p) {
      if (source_[p] != '\\' || p + 1 >= source_.size()) {
        text += source_[p];
        continue;
      }
      const char escape = source_[++p];
      switch (escape) {
        case 'n':
          text += '\n';
          break;
        case 't':
          text += '\t';
          break;
        case 'r':
          text += '\r';
          break;
        case 'b':
          text += '\b';
          break;
        case 'f':
          text += '\f';
          break;
        case 'v':
          text += '\v';
          break;
        case 'a':
          text += '\a';
          break;
        case '\\':
        case '\'':
        case '"':
          text += escape;
          break;
        case '\n':
          break;
        case 'x':
        case 'u':
        case 'U': {
          SHOEHORN_TRY(uint32_t code, hex(p + 1, escape == 'x' ? 2 : escape == 'u' ? 4 : 8));
          p += escape == 'x' ? 2 : escape == 'u' ? 4 : 8;
          if (code >= 0xD800 && code < 0xDC00 && peek(p + 1) == '\\' && peek(p + 2) == 'u') {
            SHOEHORN_TRY(const uint32_t low, hex(p + 3, 4));
            if (low >= 0xDC00 && low < 0xE000) {
              code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
              p += 6;
            }
          }
          if ((code >= 0xD800 && code < 0xE000) || code > 0x10FFFF) {
            return fail(ErrorCode::kInvalid, "line {}: the escape sequence is no Unicode character", line_);
          }
          append_utf8(text, code);
          break;
        }
        default:
          // As in Python, a backslash that escapes nothing is itself.
          text += '\\';
          text += escape;
      }
    }
    if (p >= source_.size()) return fail(ErrorCode::kInvalid, "line {}: the string has no end", begin_line);
    push(TokenKind::kString, std::move(text));
    advance(p + 1);
    return {};
  }

  Expected<uint32_t> hex(size_t at, size_t digits) const {
    uint32_t code = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = peek(at + i);
      const int value = is_digit(c)            ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (value < 0)
        return fail(ErrorCode::kInvalid, "line {}: an escape sequence needs {} hexadecimal digits", line_, digits);
      code = code << 4 | static_cast<uint32_t>(value);
    }
    return code;
  }

  const std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  After after_ = After::kKeep;
  std::vector<Token> tokens_;
};

}  // namespace

Expected<std::vector<Token>> tokenize(std::string_view source) {
  if (source.size() > limits::kTemplateBytes) {
    return fail(ErrorCode::kTooLarge, "{} bytes; the limit is {}", source.size(), limits::kTemplateBytes);
  }
  return Lexer(source).run();
}

}  // namespace shoehorn::tokenizer::jinja
