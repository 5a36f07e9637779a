#include "eval/text_likeness.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

/// How often each token is there.
using Histogram = std::vector<uint64_t>;

/// Jensen-Shannon divergence in bits (Lin 1991, doi:10.1109/18.61115) of two histograms of as many tokens.
double divergence(const Histogram& a, const Histogram& b) {
  double bits = 0, n = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    if (x > 0) bits += x * std::log2(2 * x / (x + y));
    if (y > 0) bits += y * std::log2(2 * y / (x + y));
    n += x + y;
  }
  return bits / n;
}

}  // namespace

Expected<TextLikeness> compare_texts(const tokenizer::Tokenizer& tokenizer, std::string_view calibration,
                                     std::string_view evaluation) {
  constexpr tokenizer::EncodeOptions kPlain{.add_special = false, .parse_special = false};
  constexpr size_t kLeast = 64;
  const std::vector<Token> a = tokenizer.encode(calibration, kPlain), b = tokenizer.encode(evaluation, kPlain);
  if (std::min(a.size(), b.size()) < kLeast) {
    return fail(ErrorCode::kInvalid, "texts of {} and {} tokens are too short to compare", a.size(), b.size());
  }
  const size_t n = std::min(a.size() / 2, b.size());
  const auto n_vocab = static_cast<size_t>(tokenizer.n_vocab());
  const auto count = [&](const std::vector<Token>& tokens, size_t first, size_t end) {
    Histogram counts(n_vocab);
    for (size_t i = first; i < end; ++i) ++counts[static_cast<size_t>(tokens[i])];
    return counts;
  };
  const Histogram all = count(a, 0, a.size()), begin = count(a, 0, n), end = count(a, a.size() - n, a.size());
  const Histogram other = count(b, 0, n);
  size_t unseen = 0;
  for (const Token token : b) unseen += all[static_cast<size_t>(token)] == 0 ? 1 : 0;
  return TextLikeness{.divergence = (divergence(begin, other) + divergence(end, other)) / 2,
                      .within = divergence(begin, end),
                      .unseen = static_cast<double>(unseen) / static_cast<double>(b.size()),
                      .tokens = n};
}

}  // namespace shoehorn::eval
