#include "grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <optional>

#include "grammar/code_points.h"

namespace shoehorn::grammar {
namespace {

using Kind = Element::Kind;
using Sequence = std::vector<Element>;

constexpr size_t kMaxText = size_t{1} << 20, kMaxDepth = 64, kMaxRepetitions = 65'536;

Element rule_element(uint32_t rule) { return {.kind = Kind::kRule, .rule = rule}; }

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Expected<Grammar> parse() {
    if (text_.size() > kMaxText)
      return fail(ErrorCode::kTooLarge, "grammar: {} bytes are more than {}", text_.size(), kMaxText);
    skip_space(true);
    while (at_ < text_.size()) SHOEHORN_RETURN_IF_ERROR(parse_rule());
    const auto root = names_.find("root");
    if (root == names_.end()) return fail(ErrorCode::kInvalid, "grammar: there is no rule named root");
    grammar_.root = root->second;
    SHOEHORN_RETURN_IF_ERROR(check(grammar_));
    return std::move(grammar_);
  }

 private:
  template <class... Args>
  tl::unexpected<Error> error(fmt::format_string<Args...> format, Args&&... args) const {
    const auto line =
        1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(std::min(at_, text_.size())), '\n');
    return fail(ErrorCode::kInvalid, "grammar: line {}: {}", line, fmt::format(format, std::forward<Args>(args)...));
  }

  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  void skip_space(bool newlines) {
    while (at_ < text_.size()) {
      const char c = peek();
      if (c == '#') {
        while (at_ < text_.size() && peek() != '\n' && peek() != '\r') ++at_;
      } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        break;
      }
    }
  }

  Expected<std::string> parse_name() {
    const size_t begin = at_;
    while (is_name_character(peek())) ++at_;
    if (at_ == begin) return error("a rule's name is expected{}", rest());
    return std::string(text_.substr(begin, at_ - begin));
  }

  /// For messages: what stands there.
  std::string rest() const {
    if (at_ >= text_.size()) return ", not the end";
    // Whole characters of plain text only: what a client sent may be anything.
    std::string shown;
    for (const char c : text_.substr(at_, 20)) {
      if (c < ' ' || c > '~') break;
      shown += c;
    }
    return shown.empty() ? "" : fmt::format(", not \"{}\"", shown);
  }

  uint32_t rule_named(const std::string& name) {
    const auto [entry, is_new] = names_.emplace(name, static_cast<uint32_t>(grammar_.rules.size()));
    if (is_new) grammar_.rules.push_back({name, {}});
    return entry->second;
  }

  uint32_t unnamed_rule() {
    grammar_.rules.push_back({current_, {}});
    return static_cast<uint32_t>(grammar_.rules.size() - 1);
  }

  Status add_alternative(uint32_t rule, const Sequence& sequence) {
    if (grammar_.elements.size() + sequence.size() >= kMaxElements)
      return fail(ErrorCode::kTooLarge, "grammar: the rule {} takes it beyond {} elements; repeat less", current_,
                  kMaxElements);
    grammar_.rules[rule].alternatives.push_back(static_cast<uint32_t>(grammar_.elements.size()));
    grammar_.elements.insert(grammar_.elements.end(), sequence.begin(), sequence.end());
    grammar_.elements.push_back({});
    return {};
  }

  Status parse_rule() {
    SHOEHORN_TRY(current_, parse_name());
    skip_space(false);
    if (text_.substr(at_, 3) != "::=") return error("::= is expected behind the name {}{}", current_, rest());
    at_ += 3;
    skip_space(true);
    const uint32_t rule = rule_named(current_);
    if (!grammar_.rules[rule].alternatives.empty()) return error("the rule {} is defined twice", current_);
    SHOEHORN_RETURN_IF_ERROR(parse_alternatives(rule, 0));
    if (at_ < text_.size() && peek() != '\n' && peek() != '\r')
      return error("the end of the line is expected{}", rest());
    skip_space(true);
    return {};
  }

  /// Inside parentheses a line's end is nothing but space.
  Status parse_alternatives(uint32_t rule, size_t depth) {
    if (depth > kMaxDepth) return error("more than {} parentheses inside one another", kMaxDepth);
    for (;;) {
      SHOEHORN_TRY(const Sequence sequence, parse_sequence(depth));
      SHOEHORN_RETURN_IF_ERROR(add_alternative(rule, sequence));
      if (peek() != '|') return {};
      ++at_;
      skip_space(true);
    }
  }

  Expected<Sequence> parse_sequence(size_t depth) {
    Sequence out;
    for (;;) {
      SHOEHORN_TRY(const auto item, parse_item(depth));
      if (!item) return out;
      SHOEHORN_TRY(const Sequence repeated, parse_repetition(*item));
      out.insert(out.end(), repeated.begin(), repeated.end());
      if (out.size() > kMaxElements)
        return fail(ErrorCode::kTooLarge, "grammar: the rule {} takes it beyond {} elements; repeat less", current_,
                    kMaxElements);
      skip_space(depth > 0);
    }
  }

  /// What a repetition behind it would repeat; nothing at the end of a sequence.
  Expected<std::optional<Sequence>> parse_item(size_t depth) {
    const char c = peek();
    if (c == '"') return parse_literal();
    if (c == '[') return parse_class();
    if (c == '.') {
      ++at_;
      return set_of({{0, kLastCodePoint}});
    }
    if (c == '(') {
      ++at_;
      skip_space(true);
      const uint32_t rule = unnamed_rule();
      SHOEHORN_RETURN_IF_ERROR(parse_alternatives(rule, depth + 1));
      if (peek() != ')') return error(") is expected{}", rest());
      ++at_;
      return Sequence{rule_element(rule)};
    }
    if (is_name_character(c)) {
      SHOEHORN_TRY(const std::string name, parse_name());
      return Sequence{rule_element(rule_named(name))};
    }
    if (c == '<' || c == '!') return error("tokens (<...>) are not supported in grammars{}", rest());
    return std::nullopt;
  }

  /// A character of a literal or class, where \ makes another one of what follows.
  Expected<uint32_t> parse_character() {
    const auto unended = [&] { return error("a literal or class does not end"); };
    if (at_ >= text_.size()) return unended();
    if (peek() == '\\') {
      const char c = peek(1);
      at_ += 2;
      switch (c) {
        case 'n':
          return '\n';
        case 'r':
          return '\r';
        case 't':
          return '\t';
        case 'x':
          return parse_hex(2);
        case 'u':
          return parse_hex(4);
        case 'U':
          return parse_hex(8);
        case '\\':
        case '"':
        case '[':
        case ']':
        case '-':
        case '^':
          return static_cast<unsigned char>(c);
        default:
          return error("\\ before a character that it means nothing for");
      }
    }
    const auto lead = static_cast<unsigned char>(peek());
    const int size = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF8 ? 4 : 0;
    uint32_t out = size <= 1 ? lead : lead & (0x7Fu >> size);
    bool whole = size > 0 && at_ + static_cast<size_t>(size) <= text_.size();
    for (int i = 1; i < size && whole; ++i) {
      const auto byte = static_cast<unsigned char>(peek(static_cast<size_t>(i)));
      whole = (byte & 0xC0) == 0x80;
      out = out << 6 | (byte & 0x3F);
    }
    if (!whole) return error("no UTF-8");
    at_ += static_cast<size_t>(size);
    return out;
  }

  Expected<uint32_t> parse_hex(size_t digits) {
    uint32_t out = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const int digit = hexadecimal_digit(peek());
      if (digit < 0) return error("{} hexadecimal digits are expected{}", digits, rest());
      out = out << 4 | static_cast<uint32_t>(digit);
    }
    if (out > kLastCodePoint || (out >= 0xD800 && out <= 0xDFFF)) return error("U+{:X} is no character", out);
    return out;
  }

  Expected<std::optional<Sequence>> parse_literal() {
    ++at_;
    std::string bytes;
    while (peek() != '"' || at_ >= text_.size()) {
      SHOEHORN_TRY(const uint32_t c, parse_character());
      append_utf8(bytes, c);
    }
    ++at_;
    Sequence out;
    for (const char c : bytes) {
      const auto byte = static_cast<uint8_t>(c);
      out.push_back({.kind = Kind::kBytes, .low = byte, .high = byte});
    }
    return out;
  }

  Expected<std::optional<Sequence>> parse_class() {
    ++at_;
    const bool negated = peek() == '^';
    if (negated) ++at_;
    std::vector<CodePoints> set;
    while (peek() != ']' || at_ >= text_.size()) {
      SHOEHORN_TRY(const uint32_t first, parse_character());
      uint32_t last = first;
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        SHOEHORN_TRY(last, parse_character());
        if (last < first) return error("a range of characters that ends before it begins");
      }
      set.push_back({first, last});
    }
    ++at_;
    set = normalized(std::move(set));
    return set_of(negated ? complement(set) : set);
  }

  /// A range of bytes where that is enough, else a rule with an alternative per sequence of ranges; the same set is the
  /// same rule.
  Expected<std::optional<Sequence>> set_of(const std::vector<CodePoints>& given) {
    const auto set = normalized(given);
    if (set.empty()) return error("a class without characters");
    if (set.size() == 1 && set[0].last < 0x80)
      return Sequence{
          {.kind = Kind::kBytes, .low = static_cast<uint8_t>(set[0].first), .high = static_cast<uint8_t>(set[0].last)}};
    std::vector<uint32_t> key;
    for (const CodePoints& range : set) key.insert(key.end(), {range.first, range.last});
    const auto known = sets_.find(key);
    if (known != sets_.end()) return Sequence{rule_element(known->second)};
    const uint32_t rule = unnamed_rule();
    for (const ByteSequence& bytes : utf8_sequences(set)) {
      Sequence sequence;
      for (size_t i = 0; i < static_cast<size_t>(bytes.size); ++i)
        sequence.push_back({.kind = Kind::kBytes, .low = bytes.low[i], .high = bytes.high[i]});
      SHOEHORN_RETURN_IF_ERROR(add_alternative(rule, sequence));
    }
    sets_.emplace(std::move(key), rule);
    return Sequence{rule_element(rule)};
  }

  Expected<size_t> parse_count() {
    size_t out = 0;
    const size_t begin = at_;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      out = out * 10 + static_cast<size_t>(peek() - '0');
      if (out > kMaxRepetitions) return error("more than {} repetitions", kMaxRepetitions);
    }
    if (at_ == begin) return error("a number is expected{}", rest());
    return out;
  }

  Expected<Sequence> parse_repetition(const Sequence& item) {
    size_t least = 1;
    std::optional<size_t> most = 1;  // nothing: no limit
    switch (peek()) {
      case '*':
        least = 0, most.reset();
        break;
      case '+':
        most.reset();
        break;
      case '?':
        least = 0;
        break;
      case '{': {
        ++at_;
        skip_space(false);
        SHOEHORN_TRY(least, parse_count());
        most = least;
        skip_space(false);
        if (peek() == ',') {
          ++at_;
          skip_space(false);
          most.reset();
          if (peek() != '}') {
            SHOEHORN_TRY(most, parse_count());
          }
          skip_space(false);
        }
        if (peek() != '}') return error("}} is expected{}", rest());
        if (most && *most < least) return error("at least {} and at most {} repetitions", least, *most);
        break;
      }
      default:
        return item;
    }
    ++at_;
    return repeat(item, least, most);
  }

  Expected<Sequence> repeat(const Sequence& item, size_t least, std::optional<size_t> most) {
    Element one = item.size() == 1 ? item[0] : Element{};
    if (item.size() != 1) {
      one = rule_element(unnamed_rule());
      SHOEHORN_RETURN_IF_ERROR(add_alternative(one.rule, item));
    }
    Sequence out(least, one);
    if (!most) {
      const uint32_t more = unnamed_rule();
      SHOEHORN_RETURN_IF_ERROR(add_alternative(more, {one, rule_element(more)}));
      SHOEHORN_RETURN_IF_ERROR(add_alternative(more, {}));
      out.push_back(rule_element(more));
    } else if (*most > least) {
      // Each of the optional ones holds those behind it: one way to read a number of them.
      uint32_t next = 0;
      for (size_t i = least; i < *most; ++i) {
        const uint32_t optional = unnamed_rule();
        SHOEHORN_RETURN_IF_ERROR(
            add_alternative(optional, i == least ? Sequence{one} : Sequence{one, rule_element(next)}));
        SHOEHORN_RETURN_IF_ERROR(add_alternative(optional, {}));
        next = optional;
      }
      out.push_back(rule_element(next));
    }
    return out;
  }

  const std::string_view text_;
  size_t at_ = 0;
  std::string current_;  // the rule that is read
  Grammar grammar_;
  std::map<std::string, uint32_t> names_;
  std::map<std::vector<uint32_t>, uint32_t> sets_;
};

}  // namespace

Expected<Grammar> parse_gbnf(std::string_view text) { return Parser(text).parse(); }

}  // namespace shoehorn::grammar
