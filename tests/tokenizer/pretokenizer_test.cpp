// Every pre-tokenizer against its regular expressions, run by PCRE2.
#include "tokenizer/pretokenizer.h"

#include <map>
#include <random>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "support/support.h"
#include "tokenizer/patterns.h"

namespace shoehorn::tokenizer {
namespace {

/// PCRE2's \s has U+180E besides White_Space; spelled out, it is what the other engines mean.
std::string with_white_space_spelled_out(const std::string& regex) {
  constexpr char kSpaces[] = "\\t-\\r\\x{85}\\p{Z}";
  std::string out;
  bool bracket = false;
  for (size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] == '\\' && i + 1 < regex.size()) {
      const char c = regex[++i];
      if (c == 's') {
        out += bracket ? kSpaces : std::string("[") + kSpaces + "]";
      } else if (c == 'S') {
        out += std::string("[^") + kSpaces + "]";
      } else {
        out += '\\';
        out += c;
      }
      continue;
    }
    if (regex[i] == '[' && !bracket)
      bracket = true;
    else if (regex[i] == ']')
      bracket = false;
    out += regex[i];
  }
  return out;
}

class Regex {
 public:
  explicit Regex(const std::string& regex) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    const std::string pattern = with_white_space_spelled_out(regex);
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error,
                          &offset, nullptr);
    EXPECT_NE(code_, nullptr) << pattern << " at " << offset;
    if (code_ != nullptr) pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
    match_ = pcre2_match_data_create(16, nullptr);
  }
  Regex(const Regex&) = delete;
  ~Regex() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }

  /// Cuts text into its matches and what lies between.
  std::vector<std::string> split(const std::string& text) const {
    std::vector<std::string> out;
    size_t pos = 0;
    while (pos < text.size()) {
      const int n = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), pos, PCRE2_NOTEMPTY,
                                match_, nullptr);
      if (n < 0) break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match_);
      if (range[0] > pos) out.push_back(text.substr(pos, range[0] - pos));
      out.push_back(text.substr(range[0], range[1] - range[0]));
      pos = range[1];
    }
    if (pos < text.size()) out.push_back(text.substr(pos));
    return out;
  }

 private:
  pcre2_code* code_;
  pcre2_match_data* match_;
};

constexpr char kGpt2[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kQwen2[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The regular expressions of pre-tokenizers that no tokenizer.json row describes.
const std::map<std::string, std::vector<std::string>>& further_regexes() {
  static const std::map<std::string, std::vector<std::string>> map = {
      {"laguna", {R"([^\n]+|[\n]+)", kQwen2}},
      {"ufakzeka", {R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"falcon", {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, "[0-9][0-9][0-9]"}},
      {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
      {"bloom", {R"( ?[^(\s|.,!?…。，、।۔،)]+)"}},
      {"viking", {R"( ?[^(\s|.,!?…。，、।۔،)]+)", R"(\p{N})"}},
      {"deepseek-llm",
       {R"([\r\n])", "\\s?[" + std::string(patterns::kDeepseekLetters) + "]+",
        "\\s?[" + std::string(patterns::kDeepseekPunctuation) + "]+", R"(\s+$)",
        "[" + std::string(patterns::kDeepseekCjk) + "]+", R"(\p{N}+)"}},
  };
  return map;
}

/// The regular expressions of a row, from the tokenizer.json that it stands for.
std::vector<std::vector<std::string>> regexes_of(const std::string& name) {
  std::vector<std::vector<std::string>> out;
  for (const HfPreTokenizer& row : hf_pretokenizers()) {
    if (row.name != name) continue;
    std::vector<std::string> passes;
    for (const std::string step : row.steps) {
      if (step == "ByteLevel")
        passes.push_back(kGpt2);
      else if (step == "Digits")
        passes.push_back(R"(\p{N})");
      else
        passes.push_back(step.substr(std::string("Split ").size()));
    }
    out.push_back(passes);
  }
  if (const auto it = further_regexes().find(name); it != further_regexes().end()) out.push_back(it->second);
  return out;
}

std::vector<std::string> pieces(const PreTokenizer& row, const std::string& text) {
  std::vector<std::string> out;
  size_t begin = 0;
  for (const uint32_t end : split(row, text)) {
    out.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return out;
}

const std::vector<std::vector<std::string>>& alphabets() {
  static const std::vector<std::vector<std::string>> all = {
      // contractions, cases
      {"'", "'", "s", "S", "ſ", "t", "T", "r", "R", "e", "E", "v", "V", "m", "l", "L", "d", "D", " ", "’", "x", "1"},
      // white space
      {" ", " ", " ", "\t", "\n", "\r", "\r\n", "\v", "\f", "\u0085", "\u00a0", "\u2003", "\u2028", "\u3000", "a", ".",
       "1"},
      // words: upper, lower, title, modifier, other letters, marks
      {"A",  "B",  "Ж",      "a",      "b",      "ß",       "é", "ǅ",  "ʰ", "ª", "中",
       "の", "한", "\u0301", "\u093e", "\u20dd", "e\u0301", " ", "'s", "-", "\n"},
      // numbers
      {"0", "1", "2", "3", "9", "٣", "Ⅷ", "½", "²", "𝟙", "一", " ", "a", ".", ",", "'", "\n"},
      // punctuation and symbols
      {"!",  "\"", "#", "$", "%", "&", "'",  "(", ")", "*",  "+", ",",  "-",  ".", "/", ":", ";",
       "<",  "=",  ">", "?", "@", "[", "\\", "]", "^", "_",  "`", "{",  "|",  "}", "~", "…", "。",
       "，", "、", "।", "۔", "،", "‘", "«",  "€", "¬", "＝", " ", "\n", "\r", "a", "Z", "7"},
      // emoji, joiners, controls, unassigned, private, the last code point
      {"😀",      "👩",      "\u200d", "🏽",   "🇮",      "\ufe0f", std::string(1, '\0'),
       "\x1f",   "\u200b", "\ufeff", "\u180e", "\u0378", "\ue000", "\U0010ffff",
       "\u0300", " ",      "a",      "A",      "1",      "中",     "!",
       "\n"},
      // scripts whose boundaries the ranges of some patterns draw
      {"ࠀ",  "一", "龥", "龦", "가", "힣",  "\ud7fb", "ぁ", "ゟ", "゠", "ヿ",   "㐀", "ｱ",      "Ａ", "ａ", "！",
       "～", "　", "ƻ",  "ʔ",  "Ͱ",  "Ა", "ᴬ",      "ℂ",  "ﬀ",  "𐐀",  "𞤀", " ",  "\u00a0", "a",  "1",  "."},
  };
  return all;
}

TEST(PreTokenizers, EachEqualsItsRegularExpressions) {
  std::mt19937 random(7);
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i) {
    const auto& one = alphabets()[random() % alphabets().size()];
    const auto& other = random() % 2 ? one : alphabets()[random() % alphabets().size()];
    std::string text;
    for (size_t n = 1 + random() % 24; n > 0; --n) {
      const auto& alphabet = random() % 4 ? one : other;
      text += alphabet[random() % alphabet.size()];
    }
    texts.push_back(text);
  }
  // Runs of white space beyond every limit in the patterns.
  for (const size_t n : {3, 4, 5, 255, 511, 512, 513, 1030}) {
    texts.push_back(std::string(n, ' '));
    texts.push_back(std::string(n, ' ') + "a");
    texts.push_back("b" + std::string(n, ' ') + "\n" + std::string(n, ' ') + "c");
  }

  std::map<const Pattern*, std::string> covered;  // rows with the same passes are the same function
  for (const PreTokenizer& row : pretokenizers()) {
    for (const auto& passes : regexes_of(row.name)) {
      covered[row.passes.data()] = row.name;
      std::vector<std::unique_ptr<Regex>> regexes;
      for (const std::string& regex : passes) regexes.push_back(std::make_unique<Regex>(regex));
      for (const std::string& text : texts) {
        std::vector<std::string> expected = {text};
        for (const auto& regex : regexes) {
          std::vector<std::string> cut;
          for (const std::string& piece : expected) {
            for (std::string& part : regex->split(piece)) cut.push_back(std::move(part));
          }
          expected = std::move(cut);
        }
        ASSERT_EQ(pieces(row, text), expected) << row.name << ": " << testing::PrintToString(text);
      }
    }
  }
  for (const PreTokenizer& row : pretokenizers()) {
    EXPECT_TRUE(covered.contains(row.passes.data())) << row.name << " was compared with no regular expression";
  }
}

TEST(PreTokenizers, CutInvalidUtf8WithoutLosingBytes) {
  std::mt19937 random(8);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (size_t n = random() % 60; n > 0; --n)
      text += static_cast<char>(random() % 3 ? random() % 256 : ' ' + random() % 90);
    for (const PreTokenizer& row : pretokenizers()) {
      std::string joined;
      for (const std::string& piece : pieces(row, text)) {
        EXPECT_FALSE(piece.empty());
        joined += piece;
      }
      ASSERT_EQ(joined, text) << row.name;
    }
  }
}

TEST(PreTokenizers, HaveUniqueNamesThatRecognitionKnows) {
  std::map<std::string, int> names;
  for (const PreTokenizer& row : pretokenizers()) EXPECT_EQ(++names[row.name], 1) << row.name;
  for (const HfPreTokenizer& row : hf_pretokenizers()) {
    const PreTokenizer* found = find_pretokenizer(row.name);
    ASSERT_NE(found, nullptr) << row.name;
    EXPECT_EQ(found->ignore_merges, row.ignore_merges) << row.name;
  }
}

TEST(PreTokenizers, AnUnknownOneIsRefusedWithItsRegex) {
  const auto result = recognize_pretokenizer({"Split \\p{Han}+", "ByteLevel"}, false);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(result.error().message.find("\\p{Han}+"), std::string::npos) << result.error().message;
  const auto merges = recognize_pretokenizer({"Digits", "ByteLevel"}, true);
  ASSERT_FALSE(merges.has_value());
  EXPECT_NE(merges.error().message.find("ignore_merges"), std::string::npos) << merges.error().message;
}

}  // namespace
}  // namespace shoehorn::tokenizer
