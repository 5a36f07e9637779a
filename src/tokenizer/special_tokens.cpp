#include "tokenizer/special_tokens.h"

#include <algorithm>

namespace shoehorn::tokenizer {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool contains(const std::vector<Token>& sorted, Token token) {
  return std::binary_search(sorted.begin(), sorted.end(), token);
}

}  // namespace

SpecialTokens::SpecialTokens(const Vocab& vocab) {
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const TokenType type = vocab.types[i];
    const std::string& text = vocab.tokens[i];
    if (text.empty()) continue;
    if (type != TokenType::kControl && type != TokenType::kUserDefined && type != TokenType::kUnknown) continue;
    const Token token = static_cast<Token>(i);
    const bool always = type == TokenType::kUserDefined;
    entries_.push_back({text, token, always, contains(vocab.lstrip, token), contains(vocab.rstrip, token)});
    first_any_.set(static_cast<uint8_t>(text[0]));
    if (always) first_always_.set(static_cast<uint8_t>(text[0]));
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
}

const SpecialTokens::Entry* SpecialTokens::longest_prefix(std::string_view text, bool parse_special) const {
  const Entry* best = nullptr;
  auto first = entries_.begin(), last = entries_.end();  // the entries that agree with text so far
  for (size_t depth = 0; first != last; ++depth) {
    if (first->text.size() == depth) {
      if (parse_special || first->always) best = &*first;
      ++first;
    }
    if (depth == text.size()) break;
    const auto byte = static_cast<uint8_t>(text[depth]);
    const auto at = [depth](const Entry& entry) { return static_cast<uint8_t>(entry.text[depth]); };
    first = std::partition_point(first, last, [&](const Entry& entry) { return at(entry) < byte; });
    last = std::partition_point(first, last, [&](const Entry& entry) { return at(entry) == byte; });
  }
  return best;
}

std::vector<Fragment> SpecialTokens::partition(std::string_view text, bool parse_special) const {
  std::vector<Fragment> out;
  const std::bitset<256>& first = parse_special ? first_any_ : first_always_;
  size_t plain = 0;  // where the plain text before pos begins
  const auto flush = [&](size_t end) {
    if (end > plain) out.push_back({-1, text.substr(plain, end - plain)});
  };
  for (size_t pos = 0; pos < text.size();) {
    const Entry* entry =
        first[static_cast<uint8_t>(text[pos])] ? longest_prefix(text.substr(pos), parse_special) : nullptr;
    if (entry == nullptr) {
      ++pos;
      continue;
    }
    size_t end = pos;
    while (entry->lstrip && end > plain && is_space(text[end - 1])) --end;
    flush(end);
    out.push_back({entry->token, entry->text});
    pos += entry->text.size();
    while (entry->rstrip && pos < text.size() && is_space(text[pos])) ++pos;
    plain = pos;
  }
  flush(text.size());
  return out;
}

}  // namespace shoehorn::tokenizer
