#include "eval/text_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace shoehorn::eval {
namespace {

using Texts = std::vector<std::string>;

double chrf(const std::string& answer, const Texts& references, size_t word_order = 0) {
  return chrf_score(chrf_counts(answer, references, word_order));
}

double sentence_bleu(const std::string& answer, const Texts& references) {
  return sentence_bleu_score(bleu_counts(answer, references));
}

std::vector<double> sum(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

TEST(Chrf, GivesSacreBleusFigures) {
  // Its own tests, where precision and recall are alike, so that beta does not matter.
  EXPECT_DOUBLE_EQ(chrf("a", {"a"}), 100);
  EXPECT_DOUBLE_EQ(chrf("a b c", {"abc"}), 100);
  EXPECT_EQ(chrf("", {"reference"}), 0);
  EXPECT_EQ(chrf("abcdefg", {"hijklmnop"}), 0);
  EXPECT_DOUBLE_EQ(chrf("aa", {"ab"}), 25);
  EXPECT_DOUBLE_EQ(chrf_score(sum(chrf_counts("a", Texts{"a"}, 0), chrf_counts("b", Texts{"c"}, 0))), 50);
  // From its formulas, beta 2.
  const Texts english = {
      "risk assessment has to be undertaken by those who are qualified and expert in that area - that is the "
      "scientists ."};
  const std::string answer =
      "risk assessment must be made of those who are qualified and expertise in the sector - these are the scientists "
      ".";
  EXPECT_NEAR(chrf(answer, english), 63.43165368, 1e-7);
  EXPECT_NEAR(chrf(answer, english, 2), 59.23655108, 1e-7);
  const Texts czech = {"Nejvíce smutní jsme z toho, že musíme rozhodovat o tom, kdo bude žít a kdo zemře."};
  const std::string other = "Co nás nejvíc trápí, protože lékaři si vybírají, kdo bude žít a kdo zemře.";
  EXPECT_NEAR(chrf(other, czech), 39.14081690, 1e-7);
  EXPECT_NEAR(chrf(other, czech, 2), 40.37691311, 1e-7);
}

TEST(Chrf, WorkedByHand) {
  // "abc" against "abd": 1-grams 2 of 3 and 3, 2-grams 1 of 2 and 2, 3-grams 0 of 1 and 1; longer ones there are none.
  EXPECT_EQ(ChrfCounts(chrf_counts("abc", Texts{"abd"}, 0)),
            (ChrfCounts{3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_NEAR(chrf("abc", {"abd"}), 100 * (2.0 / 3 + 1.0 / 2) / 3, 1e-12);
  // Recall counts four times: P = 1/2, R = 1 gives 5 P R / (4 P + R) = 2.5 / 3.
  EXPECT_NEAR(chrf("ab", {"a"}), 100 * 2.5 / 3, 1e-12);
  // Words: "(yes," loses the mark at its end only.
  const auto counts = chrf_counts("(yes,", Texts{"(yes , no"}, 2);
  EXPECT_EQ(std::vector<double>(counts.begin() + 18, counts.end()), (std::vector<double>{2, 4, 1, 1, 3, 0}));
}

TEST(Chrf, TakesTheBestReference) {
  EXPECT_DOUBLE_EQ(chrf("the cat", {"a dog", "the cat", "mice"}), 100);
  EXPECT_EQ(chrf_counts("the cat", Texts{"a dog", "the cat"}, 2), chrf_counts("the cat", Texts{"the cat"}, 2));
}

TEST(Tokens13a, StandAsMtevalPutsThem) {
  EXPECT_EQ(
      tokenize_13a("It's 3.5-4 km (1,000 m), isn't it?...&quot;Yes&quot;, A.B. said 5-\n6 x-y 1. b/c"),
      (Texts{"It's", "3.5", "-",  "4", "km", "(", "1,000", "m", ")",    ",",  "isn't", "it", "?", ".", ".", ".",
             "\"",   "Yes", "\"", ",", "A",  ".", "B",     ".", "said", "56", "x-y",   "1",  ".", "b", "/", "c"}));
  EXPECT_EQ(tokenize_13a(""), Texts{});
  EXPECT_EQ(tokenize_13a("a\u00a0b"), (Texts{"a", "b"}));
}

TEST(Bleu, GivesSacreBleusFigureForItsExample) {
  const Texts answers = {"The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."};
  const std::vector<Texts> references = {{"The dog bit the man.", "The dog had bit the man."},
                                         {"It was not unexpected.", "No one was surprised."},
                                         {"The man bit him first.", "The man had bitten the dog."}};
  BleuCounts counts(kBleuCounts);
  for (size_t i = 0; i < 3; ++i) counts = sum(counts, bleu_counts(answers[i], references[i]));
  EXPECT_NEAR(bleu_score(counts), 48.530827, 1e-6);
  EXPECT_NEAR(sentence_bleu(answers[1], references[1]), 14.794015675, 1e-7);
  EXPECT_NEAR(sentence_bleu(answers[2], references[2]), 29.071536848, 1e-7);
}

TEST(Bleu, WorkedByHand) {
  // "a a a b" against "a b c": "a" is clipped to 1. Orders: 2 of 4, 1 of 3, 0 of 2 (1/4), 0 of 1 (1/4).
  EXPECT_EQ(bleu_counts("a a a b", Texts{"a b c"}), (BleuCounts{4, 3, 2, 4, 1, 3, 0, 2, 0, 1}));
  EXPECT_NEAR(bleu_score(bleu_counts("a a a b", Texts{"a b c"})), 100 * std::pow(0.5 * (1.0 / 3) * 0.25 * 0.25, 0.25),
              1e-9);
  // Shorter than the reference: exp(1 - 4 / 2), and a sentence of two words has two orders.
  EXPECT_NEAR(sentence_bleu("a b", {"a b c d"}), 100 * std::exp(-1.0), 1e-9);
  EXPECT_EQ(bleu_score(bleu_counts("a b", Texts{"a b c d"})), 0);  // as a corpus it has no 4-grams
  // Of two references as near in length the shorter counts.
  EXPECT_EQ(bleu_counts("a b c", Texts{"a b c d", "a b"})[1], 2);
  EXPECT_EQ(sentence_bleu("x y", {"a b"}), 0);
  EXPECT_EQ(sentence_bleu("", {"a b"}), 0);
}

TEST(RougeL, WorkedByHand) {
  // Lin 2004: "police killed the gunman" and "police kill the gunman" have 3 words of 4 in order, "the gunman kill
  // police" 2.
  EXPECT_DOUBLE_EQ(rouge_l("police kill the gunman", Texts{"police killed the gunman"}), 0.75);
  EXPECT_DOUBLE_EQ(rouge_l("the gunman kill police", Texts{"police killed the gunman"}), 0.5);
  EXPECT_DOUBLE_EQ(rouge_l("The GUNMAN!", Texts{"the-gunman"}), 1);
  EXPECT_DOUBLE_EQ(rouge_l("a b", Texts{"a x y z"}), 2 * 0.5 * 0.25 / 0.75);
  EXPECT_DOUBLE_EQ(rouge_l("a b", Texts{"c", "a b"}), 1);
  EXPECT_EQ(rouge_l("", Texts{"a"}), 0);
}

/// All of it once more, straight from the definitions: every n-gram is searched for, none is hashed.
double slow_matches(const Texts& a, const Texts& b, size_t n) {
  std::map<Texts, int> in_a, in_b;
  for (size_t i = 0; i + n <= a.size(); ++i)
    ++in_a[Texts(a.begin() + static_cast<ptrdiff_t>(i), a.begin() + static_cast<ptrdiff_t>(i + n))];
  for (size_t i = 0; i + n <= b.size(); ++i)
    ++in_b[Texts(b.begin() + static_cast<ptrdiff_t>(i), b.begin() + static_cast<ptrdiff_t>(i + n))];
  double matches = 0;
  for (const auto& [ngram, count] : in_a) matches += std::min(count, in_b.contains(ngram) ? in_b[ngram] : 0);
  return matches;
}

TEST(TextMetrics, CountEveryNgramAsADirectSearchDoes) {
  uint32_t state = 1;
  const auto random = [&](uint32_t n) {
    return (state = state * 1664525 + 1013904223) >> 16 & 0x7fff ? (state >> 16) % n : 0;
  };
  for (int round = 0; round < 50; ++round) {
    Texts a, b;
    std::string answer, reference;
    for (uint32_t i = 0, n = random(12); i < n; ++i) a.emplace_back(1, static_cast<char>('a' + random(3)));
    for (uint32_t i = 0, n = 1 + random(12); i < n; ++i) b.emplace_back(1, static_cast<char>('a' + random(3)));
    for (const auto& x : a) answer += x + " ";
    for (const auto& x : b) reference += x + " ";
    const auto bleu = bleu_counts(answer, Texts{reference});
    const auto chrf = chrf_counts(answer, Texts{reference}, 2);
    for (size_t n = 1; n <= 4; ++n) EXPECT_EQ(bleu[2 * n], slow_matches(a, b, n));
    for (size_t n = 1; n <= 6; ++n) EXPECT_EQ(chrf[3 * n - 1], slow_matches(a, b, n));  // a word is a character here
    for (size_t n = 1; n <= 2; ++n) EXPECT_EQ(chrf[18 + 3 * n - 1], slow_matches(a, b, n));
  }
}

}  // namespace
}  // namespace shoehorn::eval
