#include <algorithm>

#include "eval/text_metrics.h"

namespace shoehorn::eval {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false;
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (letter && !in_word) words.emplace_back();
    if (letter) words.back() += c;
    in_word = letter;
  }
  return words;
}

size_t longest_common_subsequence(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<size_t> row(b.size() + 1);  // of the prefixes of b against the words of a so far
  for (const std::string& word : a) {
    size_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = word == b[j - 1] ? diagonal + 1 : std::max(row[j], row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

double rouge_l(std::string_view answer, std::span<const std::string> references) {
  const std::vector<std::string> words = words_of(answer);
  double best = 0;
  for (const std::string& reference : references) {
    const std::vector<std::string> other = words_of(reference);
    if (words.empty() || other.empty()) continue;
    const auto common = static_cast<double>(longest_common_subsequence(words, other));
    if (common == 0) continue;
    const double precision = common / static_cast<double>(words.size()),
                 recall = common / static_cast<double>(other.size());
    best = std::max(best, 2 * precision * recall / (precision + recall));
  }
  return best;
}

}  // namespace shoehorn::eval
