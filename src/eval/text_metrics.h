// How near an answer comes to references: chrF, BLEU and ROUGE-L.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoehorn::eval {

/// What one answer contributes to a corpus' chrF, per n-gram order (characters first, then words): n-grams of the
/// answer, of the reference, and matches. Rows may be summed over answers.
using ChrfCounts = std::vector<double>;

/// Popović 2015 (chrF) and 2017 (chrF++), as sacreBLEU computes them: character 1- to 6-grams without white space, word
/// 1- to `word_order`-grams (0: chrF, 2: chrF++) with punctuation split off, beta 2. Of several references the one with
/// the best score.
ChrfCounts chrf_counts(std::string_view answer, std::span<const std::string> references, size_t word_order);
/// 0 ... 100: F of the precisions' and recalls' means over the orders that both sides have.
double chrf_score(std::span<const double> counts);

/// 1 + 1 + 2 * 4 numbers: tokens of the answer, of the reference nearest in length, and per order 1 ... 4 matches and
/// n-grams.
using BleuCounts = std::vector<double>;
inline constexpr size_t kBleuCounts = 10;

/// Papineni et al. 2002, as sacreBLEU (Post 2018) computes it: 13a tokens, case kept, matches clipped by the reference
/// that has most of an n-gram.
BleuCounts bleu_counts(std::string_view answer, std::span<const std::string> references);
/// 0 ... 100, exponential smoothing: an order without matches counts as 1 / (2 n-grams), the next as 1 / (4 n-grams)
/// ...
double bleu_score(std::span<const double> counts);
/// The same of one sentence: only orders that it has n-grams of (sacreBLEU's effective order).
double sentence_bleu_score(std::span<const double> counts);
/// mteval-v13a's tokens.
std::vector<std::string> tokenize_13a(std::string_view text);

/// Lin 2004, as Google's rouge_score without stemming: F1 (0 ... 1) of the longest common subsequence of words, which
/// are runs of ASCII letters and digits in lower case. Of several references the best.
double rouge_l(std::string_view answer, std::span<const std::string> references);

}  // namespace shoehorn::eval
