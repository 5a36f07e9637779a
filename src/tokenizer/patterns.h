// The patterns that pre-tokenizers are made of. Each function is one regular expression of a tokenizer.json, named in
// its comment, matched at a position as a backtracking engine would: the first alternative that matches wins.
#pragma once

#include <array>

#include "tokenizer/pretokenizer.h"

namespace shoehorn::tokenizer::patterns {

inline bool is_newline(Char c) { return code_point(c) == '\n' || code_point(c) == '\r'; }

/// The end of the longest run of characters with a property in `mask`.
inline size_t run(const Char* text, size_t pos, size_t end, Char mask) {
  while (pos < end && is(text[pos], mask)) ++pos;
  return pos;
}

/// The end of the longest run of characters without any property in `mask`.
inline size_t run_without(const Char* text, size_t pos, size_t end, Char mask) {
  while (pos < end && !is(text[pos], mask)) ++pos;
  return pos;
}

inline Found found_if_longer(size_t pos, size_t match_end) {
  return match_end > pos ? Found{true, match_end} : Found{false, pos + 1};
}

/// 's|'t|'re|'ve|'m|'ll|'d, or (?i:...) of it. Returns pos when there is none.
template <bool kIgnoreCase>
size_t contraction(const Char* text, size_t pos, size_t end) {
  const auto letter = [&](size_t i) -> uint32_t {
    if (i >= end) return 0;
    const uint32_t cp = code_point(text[i]);
    if (!kIgnoreCase || is(text[i], kInvalid)) return cp;
    if (cp == 0x17f) return 's';  // LATIN SMALL LETTER LONG S folds to s
    return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
  };
  if (code_point(text[pos]) != '\'') return pos;
  const uint32_t first = letter(pos + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return pos + 2;
  const uint32_t second = letter(pos + 2);
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
    return pos + 3;
  return pos;
}

/// \s+(?!\S)|\s+
inline size_t spaces(const Char* text, size_t pos, size_t end) {
  const size_t stop = run(text, pos, end, kSpace);
  return stop < end && stop - pos > 1 ? stop - 1 : stop;
}

/// \s*[\r\n]+, which ends with the last line break of the white space. Returns pos when there is none.
inline size_t line_breaks(const Char* text, size_t pos, size_t end) {
  size_t stop = run(text, pos, end, kSpace);
  while (stop > pos && !is_newline(text[stop - 1])) --stop;
  return stop;
}

/// `\s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`
inline size_t spaces_by_powers_of_two(const Char* text, size_t pos, size_t end) {
  const size_t stop = run(text, pos, end, kSpace);
  if (stop == pos) return pos;
  // (?!\S) lets a match end where the white space goes on or where the text ends.
  const size_t longest = stop == end ? stop - pos : stop - pos - 1;
  for (size_t n = 512; n > 0; n /= 2) {
    if (n <= longest) return pos + n;
  }
  return pos + 1;
}

/// The space of ` ?X`: where X has to begin.
inline size_t after_space(const Char* text, size_t pos, size_t end) {
  return code_point(text[pos]) == ' ' && pos + 1 < end ? pos + 1 : pos;
}

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
inline Found gpt2(const Char* text, size_t pos, size_t end) {
  if (const size_t stop = contraction<false>(text, pos, end); stop > pos) return {true, stop};
  const size_t word = after_space(text, pos, end);
  for (const Char kind : {kLetter, kNumber}) {
    if (is(text[word], kind)) return {true, run(text, word, end, kind)};
  }
  if (!is(text[word], kSpace)) return {true, run_without(text, word, end, kSpace | kLetter | kNumber)};
  return {true, spaces(text, pos, end)};
}

/// What follows a run of punctuation in the same piece.
enum class Tail { kNone, kNewlines, kNewlinesAndSlashes };

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*`, with `mask` the excluded properties. Returns pos when there is none.
template <Tail kTail>
size_t punctuation(const Char* text, size_t pos, size_t end, Char mask) {
  const size_t begin = after_space(text, pos, end);
  if (is(text[begin], mask)) return pos;
  size_t stop = run_without(text, begin, end, mask);
  while (stop < end && kTail != Tail::kNone &&
         (is_newline(text[stop]) || (kTail == Tail::kNewlinesAndSlashes && code_point(text[stop]) == '/'))) {
    ++stop;
  }
  return stop;
}

/// \p{N}{1,N}, without limit when kMax is 0. Returns pos when there is none.
template <size_t kMax>
size_t digits(const Char* text, size_t pos, size_t end) {
  if (kMax != 0 && end - pos > kMax) end = pos + kMax;
  return run(text, pos, end, kNumber);
}

struct Cl100kOptions {
  bool contractions = true;
  Char letters = kLetter;  // what words are made of
  size_t max_digits = 3;   // 0: no limit
  Tail tail = Tail::kNewlines;
  bool power_of_two_spaces = false;
};

/// The family of cl100k_base (GPT-4, Llama 3, Qwen 2):
/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
template <Cl100kOptions kOptions>
Found cl100k(const Char* text, size_t pos, size_t end) {
  constexpr Char kWord = kOptions.letters;
  if constexpr (kOptions.contractions) {
    if (const size_t stop = contraction<true>(text, pos, end); stop > pos) return {true, stop};
  }
  const Char c = text[pos];
  const bool prefix = !is_newline(c) && !is(c, kLetter | kNumber);
  if (prefix && pos + 1 < end && is(text[pos + 1], kWord)) return {true, run(text, pos + 1, end, kWord)};
  if (is(c, kWord)) return {true, run(text, pos, end, kWord)};
  if (is(c, kNumber)) return {true, digits<kOptions.max_digits>(text, pos, end)};
  size_t stop = punctuation<kOptions.tail>(text, pos, end, kSpace | kNumber | kLetter | kWord);
  if (stop > pos) return {true, stop};
  stop = line_breaks(text, pos, end);
  if (stop > pos) return {true, stop};
  return found_if_longer(
      pos, kOptions.power_of_two_spaces ? spaces_by_powers_of_two(text, pos, end) : spaces(text, pos, end));
}

/// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
inline bool may_open(Char c) { return is(c, kLetter | kMark) && !is(c, kLower); }
/// [\p{Ll}\p{Lm}\p{Lo}\p{M}]
inline bool may_close(Char c) { return is(c, kLetter | kMark) && !is(c, kUpper); }

/// The words of o200k_base: open*close+ | open+close*, each after an optional [^\r\n\p{L}\p{N}]. Returns pos when there
/// is none.
inline size_t cased_word(const Char* text, size_t pos, size_t end) {
  const auto opening = [&](size_t i) {
    while (i < end && may_open(text[i])) ++i;
    return i;
  };
  const auto closing = [&](size_t i) {
    while (i < end && may_close(text[i])) ++i;
    return i;
  };
  const auto open_star_close_plus = [&](size_t begin) {
    const size_t stop = opening(begin);
    if (const size_t closed = closing(stop); closed > stop) return closed;
    // Nothing closes after the longest run of openers: give back until one of them can close.
    size_t back = stop;
    while (back > begin && !may_close(text[back - 1])) --back;
    return back;
  };
  const auto open_plus_close_star = [&](size_t begin) {
    const size_t stop = opening(begin);
    return stop > begin ? closing(stop) : begin;
  };
  const bool prefix = !is_newline(text[pos]) && !is(text[pos], kLetter | kNumber);
  size_t stop = prefix ? open_star_close_plus(pos + 1) : pos + 1;
  if (stop > pos + 1) return stop;
  stop = open_star_close_plus(pos);
  if (stop > pos) return stop;
  stop = prefix ? open_plus_close_star(pos + 1) : pos + 1;
  if (stop > pos + 1) return stop;
  return open_plus_close_star(pos);
}

/// The family of o200k_base (GPT-4o, Llama 4) and Tekken.
template <bool kContractions, size_t kMaxDigits>
Found o200k(const Char* text, size_t pos, size_t end) {
  size_t stop = cased_word(text, pos, end);
  if (stop > pos) {
    if (kContractions && stop < end) stop = contraction<true>(text, stop, end);
    return {true, stop};
  }
  stop = digits<kMaxDigits>(text, pos, end);
  if (stop == pos) stop = punctuation<Tail::kNewlinesAndSlashes>(text, pos, end, kSpace | kLetter | kNumber);
  if (stop == pos) stop = line_breaks(text, pos, end);
  if (stop == pos) stop = spaces(text, pos, end);
  return found_if_longer(pos, stop);
}

/// \p{N}
inline Found digit(const Char* text, size_t pos, size_t) { return {is(text[pos], kNumber), pos + 1}; }

/// \p{N}{1,3}, or \p{N}+ when kMax is 0
template <size_t kMax>
Found number(const Char* text, size_t pos, size_t end) {
  return found_if_longer(pos, digits<kMax>(text, pos, end));
}

/// [0-9][0-9][0-9]
inline Found three_ascii_digits(const Char* text, size_t pos, size_t end) {
  if (end - pos < 3) return {false, end};
  for (size_t i = pos; i < pos + 3; ++i) {
    if (code_point(text[i]) < '0' || code_point(text[i]) > '9') return {false, i + 1};
  }
  return {true, pos + 3};
}

/// [\r\n]
inline Found newline(const Char* text, size_t pos, size_t) { return {is_newline(text[pos]), pos + 1}; }

/// [^\n]+|[\n]+
inline Found lines(const Char* text, size_t pos, size_t end) {
  const bool breaks = code_point(text[pos]) == '\n';
  size_t stop = pos + 1;
  while (stop < end && (code_point(text[stop]) == '\n') == breaks) ++stop;
  return {true, stop};
}

/// \s?X+ for a property
template <Char kMask>
Found after_optional_space(const Char* text, size_t pos, size_t end) {
  const size_t begin = is(text[pos], kSpace) && pos + 1 < end ? pos + 1 : pos;
  const size_t stop = run(text, begin, end, kMask);
  return stop > begin ? Found{true, stop} : Found{false, pos + 1};
}

/// \s+$
inline Found trailing_spaces(const Char* text, size_t pos, size_t end) {
  const size_t stop = run(text, pos, end, kSpace);
  if (stop == pos) return {false, pos + 1};
  return {stop == end, stop};
}

/// The code points of a bracket expression of a regular expression, ranges and single characters without escapes.
class CodePointSet {
 public:
  explicit CodePointSet(std::string_view ranges);
  bool contains(Char c) const;

 private:
  std::vector<std::pair<uint32_t, uint32_t>> ranges_;  // ascending, disjoint
};

inline constexpr std::string_view kDeepseekLetters =
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943";
inline constexpr std::string_view kDeepseekPunctuation = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002";
inline constexpr std::string_view kDeepseekCjk = "\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff";
inline constexpr std::string_view kDeepseek3Cjk = "\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff";

/// `\s?[...]+`, or `[...]+`
template <const std::string_view& kRanges, bool kOptionalSpace>
Found code_points(const Char* text, size_t pos, size_t end) {
  static const CodePointSet set(kRanges);
  const size_t begin =
      kOptionalSpace && is(text[pos], kSpace) && pos + 1 < end && set.contains(text[pos + 1]) ? pos + 1 : pos;
  size_t stop = begin;
  while (stop < end && set.contains(text[stop])) ++stop;
  return found_if_longer(pos, stop);
}

/// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
/// \s*[\r\n]+|\s+(?!\S)|\s+
Found deepseek3(const Char* text, size_t pos, size_t end);

/// [\p{P}\$\+<=>\^~\|`]+, without ` in the older form
template <bool kBacktick>
Found falcon_punctuation(const Char* text, size_t pos, size_t end) {
  size_t stop = pos;
  for (; stop < end; ++stop) {
    const uint32_t cp = code_point(text[stop]);
    if (is(text[stop], kPunctuation)) continue;
    if (cp < 0x80 && std::string_view("$+<=>^~|").find(static_cast<char>(cp)) != std::string_view::npos) continue;
    if (kBacktick && cp == '`') continue;
    break;
  }
  return found_if_longer(pos, stop);
}

/// ` ?[^(\s|.,!?…。，、।۔،)]+`
Found bloom(const Char* text, size_t pos, size_t end);

}  // namespace shoehorn::tokenizer::patterns
