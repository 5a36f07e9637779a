// Counting n-grams of tokens.
#pragma once

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

namespace shoehorn::eval {

using NgramCounts = std::unordered_map<std::string, double>;

/// The n-grams of tokens, none of which holds a NUL.
inline NgramCounts count_ngrams(const std::vector<std::string>& tokens, size_t n) {
  NgramCounts counts;
  for (size_t i = 0; i + n <= tokens.size(); ++i) {
    std::string key;
    for (size_t j = i; j < i + n; ++j) (key += tokens[j]) += '\0';
    ++counts[key];
  }
  return counts;
}

inline double n_ngrams(const std::vector<std::string>& tokens, size_t n) {
  return tokens.size() < n ? 0 : static_cast<double>(tokens.size() - n + 1);
}

/// n-grams of `a` that `b` has too, each as often as in the one that has fewer.
inline double count_matches(const NgramCounts& a, const NgramCounts& b) {
  double matches = 0;
  for (const auto& [ngram, count] : a) {
    const auto found = b.find(ngram);
    if (found != b.end()) matches += std::min(count, found->second);
  }
  return matches;
}

}  // namespace shoehorn::eval
