#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <map>

namespace shoehorn::engine {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, 0.0f, -1.0f};

/// How often each token is drawn.
std::map<tokenizer::Token, int> draw(const SamplerOptions& options, int n) {
  Sampler sampler(options);
  std::map<tokenizer::Token, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sampler.sample(kLogits)];
  return counts;
}

constexpr SamplerOptions kPlain = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 7};

TEST(Sampler, GreedyTakesTheMostLikely) {
  SamplerOptions options = kPlain;
  options.temperature = 0;
  EXPECT_EQ(draw(options, 20), (std::map<tokenizer::Token, int>{{1, 20}}));
}

TEST(Sampler, DrawsInProportionToTheSoftmax) {
  const auto counts = draw(kPlain, 20000);
  double total = 0;
  for (const float logit : kLogits) total += std::exp(static_cast<double>(logit));
  for (size_t i = 0; i < kLogits.size(); ++i) {
    EXPECT_NEAR(counts.at(static_cast<int>(i)) / 20000.0, std::exp(static_cast<double>(kLogits[i])) / total, 0.015);
  }
}

TEST(Sampler, TopKKeepsTheKMostLikely) {
  SamplerOptions options = kPlain;
  options.top_k = 2;
  const auto counts = draw(options, 2000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(1) && counts.contains(2));
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesTheShare) {
  SamplerOptions options = kPlain;
  options.top_p = 0.7f;  // softmax: 0.636, 0.234, 0.086, 0.032, 0.012
  const auto counts = draw(options, 2000);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(1) && counts.contains(2));
}

TEST(Sampler, MinPDropsWhatIsFarBelowTheBest) {
  SamplerOptions options = kPlain;
  options.min_p = 0.1f;  // relative: 1, 0.368, 0.135, 0.0498, 0.018
  EXPECT_EQ(draw(options, 4000).size(), 3u);
}

TEST(Sampler, PenaltiesLookBackRepeatLastN) {
  SamplerOptions options = kPlain;
  options.temperature = 0;
  options.repeat_penalty = 2;
  options.repeat_last_n = 2;
  Sampler sampler(options);
  sampler.accept(1);
  EXPECT_EQ(sampler.sample(kLogits), 2);  // 3 / 2 < 2
  sampler.accept(0);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(kLogits), 1);  // token 1 is out of sight again
}

TEST(Sampler, FrequencyPenaltyGrowsWithCountsAndPresencePenaltyDoesNot) {
  SamplerOptions options = kPlain;
  options.temperature = 0;
  options.frequency_penalty = 0.6f;
  Sampler frequency(options);
  frequency.accept(1);
  EXPECT_EQ(frequency.sample(kLogits), 1);
  frequency.accept(1);
  EXPECT_EQ(frequency.sample(kLogits), 2);
  options.frequency_penalty = 0;
  options.presence_penalty = 0.6f;
  Sampler presence(options);
  presence.accept(1);
  presence.accept(1);
  EXPECT_EQ(presence.sample(kLogits), 1);
}

TEST(Sampler, SameSeedSameDraws) {
  SamplerOptions options = kPlain;
  Sampler a(options), b(options);
  options.seed = 8;
  Sampler c(options);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const auto token = a.sample(kLogits);
    EXPECT_EQ(token, b.sample(kLogits));
    differs |= token != c.sample(kLogits);
  }
  EXPECT_TRUE(differs);
}

TEST(Top2Gap, IsTheDistanceOfTheTwoBest) {
  EXPECT_FLOAT_EQ(top2_gap(kLogits), 1);
  EXPECT_FLOAT_EQ(top2_gap(std::vector<float>{5, 5, 1}), 0);
}

}  // namespace
}  // namespace shoehorn::engine
