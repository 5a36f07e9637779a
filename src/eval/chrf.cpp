#include <algorithm>

#include "eval/ngrams.h"
#include "eval/text_metrics.h"
#include "tokenizer/unicode.h"

namespace shoehorn::eval {
namespace {

constexpr size_t kCharOrder = 6;
constexpr double kBeta = 2;
constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// Characters without white space, and words: runs between white space, of which one punctuation mark at the end, else
/// at the beginning, is a word of its own (chrF++.py).
struct Units {
  std::vector<std::string> characters, words;
};

Units units_of(std::string_view text) {
  Units units;
  std::vector<std::string> word;  // characters
  const auto end_word = [&] {
    const auto is_mark = [](const std::string& c) {
      return c.size() == 1 && kPunctuation.find(c[0]) != std::string_view::npos;
    };
    const auto join = [&](size_t begin, size_t end) {
      std::string out;
      for (size_t i = begin; i < end; ++i) out += word[i];
      return out;
    };
    if (word.size() > 1 && is_mark(word.back())) {
      units.words.push_back(join(0, word.size() - 1));
      units.words.push_back(word.back());
    } else if (word.size() > 1 && is_mark(word.front())) {
      units.words.push_back(word.front());
      units.words.push_back(join(1, word.size()));
    } else if (!word.empty()) {
      units.words.push_back(join(0, word.size()));
    }
    word.clear();
  };
  size_t at = 0;
  for (const tokenizer::Char c : tokenizer::to_chars(text)) {
    const size_t n = tokenizer::char_bytes(c);
    if (tokenizer::is(c, tokenizer::kSpace)) {
      end_word();
    } else {
      word.emplace_back(text.substr(at, n));
      units.characters.push_back(word.back());
    }
    at += n;
  }
  end_word();
  return units;
}

ChrfCounts counts_against(const Units& answer, const Units& reference, size_t word_order) {
  ChrfCounts out;
  const auto add = [&](const std::vector<std::string>& a, const std::vector<std::string>& r, size_t n) {
    const double of_reference = n_ngrams(r, n);
    // An order that the reference does not have is not held against the answer.
    out.push_back(of_reference > 0 ? n_ngrams(a, n) : 0);
    out.push_back(of_reference);
    out.push_back(count_matches(count_ngrams(a, n), count_ngrams(r, n)));
  };
  for (size_t n = 1; n <= kCharOrder; ++n) add(answer.characters, reference.characters, n);
  for (size_t n = 1; n <= word_order; ++n) add(answer.words, reference.words, n);
  return out;
}

}  // namespace

ChrfCounts chrf_counts(std::string_view answer, std::span<const std::string> references, size_t word_order) {
  const Units units = units_of(answer);
  ChrfCounts best;
  double best_score = -1;
  for (const std::string& reference : references) {
    ChrfCounts counts = counts_against(units, units_of(reference), word_order);
    const double score = chrf_score(counts);
    if (score > best_score) {
      best_score = score;
      best = std::move(counts);
    }
  }
  return best;
}

double chrf_score(std::span<const double> counts) {
  double precision = 0, recall = 0, orders = 0;
  for (size_t i = 0; i + 2 < counts.size(); i += 3) {
    if (counts[i] <= 0 || counts[i + 1] <= 0) continue;
    precision += counts[i + 2] / counts[i];
    recall += counts[i + 2] / counts[i + 1];
    ++orders;
  }
  if (precision + recall <= 0) return 0;
  precision /= orders;
  recall /= orders;
  return 100 * (1 + kBeta * kBeta) * precision * recall / (kBeta * kBeta * precision + recall);
}

}  // namespace shoehorn::eval
