#include "tokenizer/patterns.h"

#include <algorithm>

namespace shoehorn::tokenizer::patterns {

CodePointSet::CodePointSet(std::string_view ranges) {
  const std::vector<Char> chars = to_chars(ranges);
  for (size_t i = 0; i < chars.size();) {
    const uint32_t first = code_point(chars[i]);
    const bool range = i + 2 < chars.size() && code_point(chars[i + 1]) == '-';
    ranges_.emplace_back(first, range ? code_point(chars[i + 2]) : first);
    i += range ? 3 : 1;
  }
  std::sort(ranges_.begin(), ranges_.end());
  // Overlapping ranges are joined, so that one binary search decides.
  std::vector<std::pair<uint32_t, uint32_t>> joined;
  for (const auto& range : ranges_) {
    if (!joined.empty() && range.first <= joined.back().second) {
      joined.back().second = std::max(joined.back().second, range.second);
    } else {
      joined.push_back(range);
    }
  }
  ranges_ = std::move(joined);
}

bool CodePointSet::contains(Char c) const {
  if (is(c, kInvalid)) return false;
  const uint32_t cp = code_point(c);
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), cp,
                                      [](uint32_t value, const auto& range) { return value < range.first; });
  return after != ranges_.begin() && cp <= std::prev(after)->second;
}

Found deepseek3(const Char* text, size_t pos, size_t end) {
  const auto ascii_letter = [](Char c) {
    const uint32_t cp = code_point(c) | 32;
    return code_point(c) < 0x80 && cp >= 'a' && cp <= 'z';
  };
  const Char c = text[pos];
  const bool ascii_punctuation = code_point(c) < 0x80 && is(c, kPunctuation | kSymbol);
  if (ascii_punctuation && pos + 1 < end && ascii_letter(text[pos + 1])) {
    size_t stop = pos + 1;
    while (stop < end && ascii_letter(text[stop])) ++stop;
    return {true, stop};
  }
  constexpr Char kWord = kLetter | kMark;
  const bool prefix = !is_newline(c) && !is(c, kLetter | kPunctuation | kSymbol);
  if (prefix && pos + 1 < end && is(text[pos + 1], kWord)) return {true, run(text, pos + 1, end, kWord)};
  if (is(c, kWord)) return {true, run(text, pos, end, kWord)};
  if (const size_t begin = after_space(text, pos, end); is(text[begin], kPunctuation | kSymbol)) {
    size_t stop = run(text, begin, end, kPunctuation | kSymbol);
    while (stop < end && is_newline(text[stop])) ++stop;
    return {true, stop};
  }
  size_t stop = line_breaks(text, pos, end);
  if (stop == pos) stop = spaces(text, pos, end);
  return found_if_longer(pos, stop);
}

Found bloom(const Char* text, size_t pos, size_t end) {
  static const CodePointSet excluded("(|.,!?…。，、।۔،)");
  const auto belongs = [](Char c) { return !is(c, kSpace) && !excluded.contains(c); };
  const size_t begin = after_space(text, pos, end);
  size_t stop = begin;
  while (stop < end && belongs(text[stop])) ++stop;
  return stop > begin ? Found{true, stop} : Found{false, pos + 1};
}

}  // namespace shoehorn::tokenizer::patterns
