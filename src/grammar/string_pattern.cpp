#include "grammar/string_pattern.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "grammar/code_points.h"

namespace shoehorn::grammar {
namespace {

constexpr size_t kMaxDepth = 32;

using Set = std::vector<CodePoints>;

const Set kDigits = {{'0', '9'}}, kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
          kSpace = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};

/// The part of a normalized set within [first, last].
Set within(const Set& set, uint32_t first, uint32_t last) {
  Set out;
  for (const CodePoints& range : set) {
    const CodePoints part = {std::max(range.first, first), std::min(range.last, last)};
    if (part.first <= part.last) out.push_back(part);
  }
  return out;
}

bool has(const Set& set, uint32_t c) { return !within(set, c, c).empty(); }

std::string class_of(const Set& set) {
  std::string out = "[";
  for (const CodePoints& range : set) {
    out += gbnf_escaped(range.first);
    if (range.last > range.first) out += "-" + gbnf_escaped(range.last);
  }
  return out + "]";
}

/// A character of a set as a JSON string has it: as itself, or behind a backslash where it may not stand so.
std::string in_json(const Set& set) {
  struct Escape {
    uint32_t code_point;
    const char* text;
  };
  static constexpr Escape kEscapes[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"},
                                        {'\n', "\\n"}, {'\r', "\\r"},  {'\t', "\\t"}};
  Set plain;
  for (const auto& [first, last] :
       {CodePoints{' ', '"' - 1}, CodePoints{'"' + 1, '\\' - 1}, CodePoints{'\\' + 1, kLastCodePoint}}) {
    const Set part = within(set, first, last);
    plain.insert(plain.end(), part.begin(), part.end());
  }
  std::vector<std::string> ways;
  if (!plain.empty()) ways.push_back(class_of(plain));
  for (const Escape& escape : kEscapes) {
    if (has(set, escape.code_point)) ways.push_back(gbnf_literal(escape.text));
  }
  if (ways.empty()) return "[]";  // refused by the grammar's parser: no character can be written
  return ways.size() == 1 ? ways[0] : fmt::format("({})", fmt::join(ways, " | "));
}

class Parser {
 public:
  Parser(std::string_view pattern, std::string_view any) : text_(pattern), any_(any) {}

  Expected<std::string> parse() {
    const bool from_begin = text_.starts_with('^');
    if (from_begin) ++at_;
    SHOEHORN_TRY(std::string out, alternatives(0, from_begin));
    if (at_ < text_.size()) return error("\")\" without \"(\"");
    return out;
  }

 private:
  template <class... Args>
  tl::unexpected<Error> error(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kUnsupported, "pattern: at character {}: {}", at_ + 1,
                fmt::format(format, std::forward<Args>(args)...));
  }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool at_end() const { return at_ >= text_.size(); }

  /// ^ and $ are known at the ends of the whole only; each alternative there has its own.
  Expected<std::string> alternatives(size_t depth, bool from_begin) {
    if (depth > kMaxDepth) return error("more than {} groups inside one another", kMaxDepth);
    std::vector<std::string> out;
    for (;;) {
      std::string sequence;
      bool to_end = false;
      while (!at_end() && peek() != '|' && peek() != ')') {
        if (depth == 0 && peek() == '$' && (at_ + 1 == text_.size() || peek(1) == '|')) {
          ++at_;
          to_end = true;
          break;
        }
        SHOEHORN_TRY(const std::string item, repeated(depth));
        sequence += (sequence.empty() ? "" : " ") + item;
      }
      if (depth == 0) {
        if (!from_begin) sequence = fmt::format("{}* {}", any_, sequence);
        if (!to_end) sequence += fmt::format(" {}*", any_);
      }
      out.push_back(sequence.empty() ? "\"\"" : sequence);
      if (at_end() || peek() != '|') break;
      ++at_;
      from_begin = depth == 0 && peek() == '^';
      if (from_begin) ++at_;
    }
    return out.size() == 1 ? out[0] : fmt::format("({})", fmt::join(out, " | "));
  }

  Expected<std::string> repeated(size_t depth) {
    SHOEHORN_TRY(std::string out, item(depth));
    const char c = peek();
    if (c == '*' || c == '+' || c == '?') {
      out += c;
      ++at_;
    } else if (c == '{') {
      const size_t end = text_.find('}', at_);
      if (end == std::string_view::npos ||
          text_.substr(at_ + 1, end - at_ - 1).find_first_not_of("0123456789,") != std::string_view::npos)
        return error("a repetition {{m,n}} is expected");
      out += text_.substr(at_, end + 1 - at_);
      at_ = end + 1;
    } else {
      return out;
    }
    // Lazily or not, the same texts match.
    if (peek() == '?') ++at_;
    return out;
  }

  Expected<std::string> item(size_t depth) {
    const char c = peek();
    switch (c) {
      case '(': {
        ++at_;
        if (peek() == '?') {
          if (peek(1) != ':') return error("groups that look around, or have names, cannot be a grammar");
          at_ += 2;
        }
        SHOEHORN_TRY(const std::string group, alternatives(depth + 1, false));
        if (peek() != ')') return error("a group does not end");
        ++at_;
        return "(" + group + ")";
      }
      case '[':
        return bracket();
      case '.': {
        ++at_;
        return in_json(complement({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}));
      }
      case '*':
      case '+':
      case '?':
      case '{':
        return error("nothing is there to be repeated");
      case '^':
      case '$':
        return error("{} is known at the ends only", c);
      default: {
        SHOEHORN_TRY(const Set set, character());
        return in_json(set);
      }
    }
  }

  /// A character, or a set with a name (\d).
  Expected<Set> character() {
    if (peek() != '\\') {
      // The text is valid UTF-8: it came as JSON.
      const auto lead = static_cast<unsigned char>(peek());
      const size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
      const uint32_t out = code_points(text_.substr(at_, size)).front();
      at_ += size;
      return Set{{out, out}};
    }
    const char c = peek(1);
    const auto one = [](uint32_t value) { return Set{{value, value}}; };
    at_ += 2;
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return complement(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return complement(kWord);
      case 's':
        return kSpace;
      case 'S':
        return complement(kSpace);
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'x':
        return hexadecimal(2);
      case 'u':
        return hexadecimal(4);
      default:
        if (c == '\0' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
          at_ -= 2;
          return error("\\{} cannot be a grammar", c == '\0' ? ' ' : c);
        }
        return one(static_cast<unsigned char>(c));
    }
  }

  Expected<Set> hexadecimal(size_t digits) {
    uint32_t out = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const int digit = hexadecimal_digit(peek());
      if (digit < 0) return error("{} hexadecimal digits are expected", digits);
      out = out << 4 | static_cast<uint32_t>(digit);
    }
    return Set{{out, out}};
  }

  Expected<std::string> bracket() {
    ++at_;
    const bool negated = peek() == '^';
    if (negated) ++at_;
    Set set;
    while (peek() != ']') {
      if (at_end()) return error("a class does not end");
      SHOEHORN_TRY(const Set first, character());
      set.insert(set.end(), first.begin(), first.end());
      if (peek() != '-' || peek(1) == ']' || at_ + 1 >= text_.size() || first.size() != 1 ||
          first[0].first != first[0].last)
        continue;
      ++at_;
      SHOEHORN_TRY(const Set last, character());
      if (last.size() != 1 || last[0].first != last[0].last || last[0].first < first[0].first)
        return error("a range of characters that ends before it begins");
      set.back().last = last[0].first;
    }
    ++at_;
    set = normalized(std::move(set));
    return in_json(negated ? complement(set) : set);
  }

  const std::string_view text_, any_;
  size_t at_ = 0;
};

}  // namespace

std::string gbnf_escaped(uint32_t c) {
  switch (c) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^':
      return {'\\', static_cast<char>(c)};
    default:
      break;
  }
  if (c >= 0x20 && c < 0x7F) return {static_cast<char>(c)};
  return c <= 0xFF     ? fmt::format("\\x{:02X}", c)
         : c <= 0xFFFF ? fmt::format("\\u{:04X}", c)
                       : fmt::format("\\U{:08X}", c);
}

std::string gbnf_literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    // Bytes of characters beyond ASCII stand for themselves.
    if (byte >= 0x80 || c == '[' || c == ']' || c == '-' || c == '^') {
      out += c;
    } else {
      out += gbnf_escaped(byte);
    }
  }
  return out + "\"";
}

Expected<std::string> gbnf_of_pattern(std::string_view pattern, std::string_view any) {
  return Parser(pattern, any).parse();
}

}  // namespace shoehorn::grammar
