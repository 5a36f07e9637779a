#include "tokenizer/merger.h"

#include <map>
#include <random>

#include "support/support.h"

namespace shoehorn::tokenizer {
namespace {

struct Rules {
  std::map<std::pair<Symbol, Symbol>, std::pair<uint32_t, Symbol>> pairs;

  PairMerger merger() const {
    PairMerger out;
    for (const auto& [pair, rule] : pairs) out.add(pair.first, pair.second, rule.first, rule.second);
    return out;
  }

  // The definition: again and again the pair of the lowest rank, the leftmost among equals.
  std::vector<Symbol> merge_slowly(std::vector<Symbol> symbols) const {
    while (true) {
      size_t best = symbols.size();
      std::pair<uint32_t, Symbol> best_rule;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto it = pairs.find({symbols[i], symbols[i + 1]});
        if (it != pairs.end() && (best == symbols.size() || it->second.first < best_rule.first)) {
          best = i;
          best_rule = it->second;
        }
      }
      if (best == symbols.size()) return symbols;
      symbols[best] = best_rule.second;
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  }
};

Rules random_rules(std::mt19937& random, int n_letters, int n_symbols, int n_rules, uint32_t n_ranks) {
  Rules rules;
  for (int i = 0; i < n_rules; ++i) {
    const auto symbol = [&](int limit) { return static_cast<Symbol>(random() % static_cast<uint32_t>(limit)); };
    rules.pairs[{symbol(n_symbols), symbol(n_symbols)}] = {random() % n_ranks,
                                                           n_letters + symbol(n_symbols - n_letters)};
  }
  return rules;
}

TEST(Merger, MergesLikeTheDefinitionOnShortSequences) {
  std::mt19937 random(1);
  MergeScratch scratch;
  for (int round = 0; round < 2000; ++round) {
    // Few ranks give many ties, and merges whose result merges earlier than they did.
    const Rules rules = random_rules(random, 4, 12, 30, round % 2 ? 5 : 100000);
    const PairMerger merger = rules.merger();
    std::vector<Symbol> symbols(random() % 40);
    for (Symbol& s : symbols) s = static_cast<Symbol>(random() % 4) - (random() % 20 == 0 ? 10 : 0);
    const std::vector<Symbol> expected = rules.merge_slowly(symbols);
    merger.merge(symbols, scratch);
    ASSERT_EQ(symbols, expected) << "round " << round;
  }
}

TEST(Merger, MergesLikeTheDefinitionOnLongSequences) {
  std::mt19937 random(2);
  MergeScratch scratch;
  for (int round = 0; round < 4; ++round) {
    const Rules rules = random_rules(random, 4, 12, 30, round % 2 ? 5 : 100000);
    const PairMerger merger = rules.merger();
    std::vector<Symbol> symbols(4500);  // long enough for the buckets
    for (Symbol& s : symbols) s = static_cast<Symbol>(random() % 4);
    const std::vector<Symbol> expected = rules.merge_slowly(symbols);
    merger.merge(symbols, scratch);
    ASSERT_EQ(symbols, expected) << "round " << round;
  }
}

TEST(Merger, KeepsTheFirstRankOfAPair) {
  PairMerger merger;
  merger.add(0, 1, 7, 2);
  merger.add(0, 1, 3, 3);
  MergeScratch scratch;
  std::vector<Symbol> symbols = {0, 1};
  merger.merge(symbols, scratch);
  EXPECT_EQ(symbols, std::vector<Symbol>{2});
}

}  // namespace
}  // namespace shoehorn::tokenizer
