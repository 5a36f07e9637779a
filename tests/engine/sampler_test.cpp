#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <map>

#include "tokenizer/tokenizer.h"

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

const SamplerOptions kPlain = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 7};

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

// Of equal logits the lower ids, wherever they stand among many.
TEST(Sampler, TopKOfManyWithEqualLogits) {
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7919 % 50);
  std::vector<tokenizer::Token> best;
  for (float logit = 49; best.size() < 120; --logit) {
    for (size_t i = 0; i < logits.size() && best.size() < 120; ++i) {
      if (logits[i] == logit) best.push_back(static_cast<tokenizer::Token>(i));
    }
  }
  SamplerOptions options = kPlain;
  options.top_k = 120;
  options.temperature = 100;
  Sampler sampler(options);
  std::map<tokenizer::Token, int> counts;
  for (int i = 0; i < 5000; ++i) ++counts[sampler.sample(logits)];
  for (const tokenizer::Token token : best) EXPECT_TRUE(counts.contains(token)) << token;
  EXPECT_EQ(counts.size(), best.size());
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

/// A vocabulary of letters.
tokenizer::Tokenizer letters() {
  tokenizer::Vocab vocab;
  vocab.pre = "gpt-2";
  vocab.tokens = {"a", "b", "c", "ab", "<end>"};
  vocab.types.assign(vocab.tokens.size(), tokenizer::TokenType::kNormal);
  vocab.types.back() = tokenizer::TokenType::kControl;
  vocab.merges = {"a b"};
  vocab.eos = 4;
  vocab.eog = {4};
  auto out = tokenizer::Tokenizer::create(std::move(vocab));
  EXPECT_TRUE(out.has_value()) << out.error().message;
  return std::move(*out);
}

TEST(Sampler, FollowsAGrammarWhateverTheLogitsSay) {
  const tokenizer::Tokenizer tokenizer = letters();
  const auto texts = std::make_shared<const grammar::TokenTexts>(tokenizer);
  const auto grammar = grammar::token_grammar("root ::= \"abc\" \"b\"?", texts);
  ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
  for (const float temperature : {0.0f, 1.0f, 5.0f}) {
    SamplerOptions options = kPlain;
    options.temperature = temperature;
    options.grammar = *grammar;
    options.logit_bias = {{2, 100.0f}};
    Sampler sampler(options);
    for (int answer = 0; answer < 20; ++answer) {
      sampler.begin_answer();
      std::string text;
      for (int i = 0; i < 10 && !sampler.grammar_has_ended(); ++i) {
        const tokenizer::Token token = sampler.sample(kLogits);
        if (token == 4) break;
        text += tokenizer.piece(token);
      }
      EXPECT_TRUE(sampler.grammar_is_complete());
      EXPECT_TRUE(text == "abc" || text == "abcb") << text;
    }
  }
  // What the vocabulary cannot say ends the answer, and is not complete.
  const auto stuck = grammar::token_grammar("root ::= \"abd\"", texts);
  ASSERT_TRUE(stuck.has_value());
  SamplerOptions options = kPlain;
  options.grammar = *stuck;
  Sampler sampler(options);
  tokenizer::Token token = 0;
  for (int i = 0; i < 5 && token != 4; ++i) token = sampler.sample(kLogits);
  EXPECT_EQ(token, 4);
  EXPECT_FALSE(sampler.grammar_is_complete());
}

}  // namespace
}  // namespace shoehorn::engine
