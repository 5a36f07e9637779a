// The engine against the plain forward pass, over the whole way: checkpoint -> GGUF -> logits.
#include <gtest/gtest.h>

#include <cmath>

#include "convert/checkpoint_view.h"
#include "engine/generate.h"
#include "support/running_model.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::engine {
namespace {

using test::open_session;
using test::to_gguf;

constexpr SessionOptions kExact = {.n_ctx = 64, .n_threads = 2, .key_type = quant::Type::F32, .value_type = quant::Type::F32};

std::vector<tokenizer::Token> some_tokens(size_t n) {
  std::vector<tokenizer::Token> tokens;
  for (size_t i = 0; i < n; ++i) tokens.push_back(static_cast<tokenizer::Token>((i * 37 + 11) % 256));
  return tokens;
}

void expect_parity(const Json& config) {
  const auto checkpoint = test::make_tiny_checkpoint(config);
  const auto tokens = some_tokens(21);
  const auto expected = test::plain_forward(checkpoint, {tokens.begin(), tokens.end()});
  Session session = open_session(to_gguf(checkpoint.directory, "F32"), kExact);
  const auto logits = session.eval(tokens, tokens.size());
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  double worst = 0, largest = 0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (size_t i = 0; i < session.n_vocab(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>((*logits)[t * session.n_vocab() + i]) - expected[t][i]));
      largest = std::max(largest, std::abs(expected[t][i]));
    }
  }
  EXPECT_GT(largest, 0.5);
  EXPECT_LT(worst, 1e-4) << "largest logit " << largest;

  // Without a file, from the checkpoint's own bytes: its rows of q and k lie in another order.
  NoProgress progress;
  ASSERT_EXPECTED(auto view, convert::view_checkpoint(checkpoint.directory, progress));
  ASSERT_EXPECTED(auto model, Model::create(std::move(view), models::RopeType::kNeox));
  ASSERT_EXPECTED(auto in_place, Session::create(model, kExact));
  ASSERT_EXPECTED(const auto same, in_place.eval(tokens, tokens.size()));
  for (size_t i = 0; i < same.size(); ++i) ASSERT_NEAR(same[i], (*logits)[i], 1e-4) << i;
}

TEST(Forward, LlamaEqualsThePlainPass) { expect_parity(test::tiny_config()); }

TEST(Forward, TiedEmbeddings) {
  Json config = test::tiny_config();
  config["tie_word_embeddings"] = true;
  expect_parity(config);
}

TEST(Forward, LlamaWithAllBiases) {
  Json config = test::tiny_config();
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  expect_parity(config);
}

TEST(Forward, Qwen2) {
  Json config = test::tiny_config();
  config["architectures"] = {"Qwen2ForCausalLM"};
  expect_parity(config);
}

TEST(Forward, Qwen3WithHeadsWiderThanTheEmbedding) {
  Json config = test::tiny_config();
  config["architectures"] = {"Qwen3ForCausalLM"};
  config["head_dim"] = 32;
  expect_parity(config);
}

TEST(Forward, MistralIsWrittenAsLlama) {
  Json config = test::tiny_config();
  config["architectures"] = {"MistralForCausalLM"};
  config["sliding_window"] = nullptr;
  expect_parity(config);
}

TEST(Forward, JaggedWidthsHeadsAndALayerWithoutAttention) {
  Json config = test::tiny_config();
  config["intermediate_size"] = {96, 32, 64};
  config["num_attention_heads"] = {4, 0, 2};
  config["num_key_value_heads"] = {2, 0, 1};
  expect_parity(config);
}

TEST(Forward, ALayerWithoutMlpKeepsItsAttention) {
  Json config = test::tiny_config();
  config["intermediate_size"] = {96, 0, 64};
  expect_parity(config);
}

TEST(Forward, JaggedQwen2BecomesDeciWithPermutedBiases) {
  Json config = test::tiny_config();
  config["architectures"] = {"Qwen2ForCausalLM"};
  config["intermediate_size"] = {96, 32, 64};
  expect_parity(config);
}

TEST(Forward, Llama3RopeScaling) {
  Json config = test::tiny_config();
  config["max_position_embeddings"] = 512;
  config["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 64}};
  expect_parity(config);
}

TEST(Forward, LinearRopeScaling) {
  Json config = test::tiny_config();
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  expect_parity(config);
}

TEST(Forward, YarnRopeScaling) {
  Json config = test::tiny_config();
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
  expect_parity(config);
}

TEST(Forward, PartialRotaryLeavesTheRestOfTheHeadAlone) {
  Json config = test::tiny_config();
  config["partial_rotary_factor"] = 0.5;
  expect_parity(config);
}

TEST(Session, BatchSizeThreadsAndSteppingDoNotChangeTheLogits) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string path = to_gguf(checkpoint.directory, "F32");
  const auto tokens = some_tokens(40);
  SessionOptions options = kExact;
  Session whole = open_session(path, options);
  const auto expected_span = whole.eval(tokens, 1);
  ASSERT_TRUE(expected_span.has_value());
  const std::vector<float> expected(expected_span->begin(), expected_span->end());

  options.n_threads = 1;
  Session single = open_session(path, options);
  const auto one_thread = single.eval(tokens, 1);
  ASSERT_TRUE(one_thread.has_value());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), one_thread->begin())) << "bytes depend on the number of threads";

  options.n_batch = 7;
  Session batched = open_session(path, options);
  const auto in_batches = batched.eval(tokens, 3);
  ASSERT_TRUE(in_batches.has_value());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR((*in_batches)[2 * expected.size() + i], expected[i], 1e-4);

  Session stepped = open_session(path, options);
  for (size_t t = 0; t + 1 < tokens.size(); ++t) ASSERT_TRUE(stepped.eval({&tokens[t], 1}, 0).has_value());
  const auto last = stepped.eval({&tokens.back(), 1}, 1);
  ASSERT_TRUE(last.has_value());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR((*last)[i], expected[i], 1e-4);
}

// Quantized weights go through int8 products, whose activations are rounded in groups of other sizes for few tokens than for many.
TEST(Session, QuantizedLogitsDoNotDependOnThreadsAndLittleOnBatches) {
  Json config = test::tiny_config();
  config["hidden_size"] = 256;
  config["intermediate_size"] = 512;
  const auto checkpoint = test::make_tiny_checkpoint(config);
  const auto tokens = some_tokens(70);
  for (const char* mix : {"Q4_K_M", "Q8_0", "Q2_K", "Q4_0"}) {
    const std::string path = to_gguf(checkpoint.directory, mix);
    std::vector<float> expected;
    for (const int n_threads : {1, 2, 3}) {
      Session session = open_session(path, {.n_threads = n_threads});
      const auto logits = session.eval(tokens, 2);
      ASSERT_TRUE(logits.has_value());
      if (n_threads == 1) expected.assign(logits->begin(), logits->end());
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), logits->begin())) << mix << ": bytes depend on the number of threads";
    }
    double norm = 0;
    for (const float logit : expected) norm += static_cast<double>(logit) * static_cast<double>(logit);
    for (const size_t n_batch : {1, 5, 33}) {
      Session session = open_session(path, {.n_batch = n_batch, .n_threads = 2});
      const auto logits = session.eval(tokens, 2);
      ASSERT_TRUE(logits.has_value());
      double difference = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        difference += std::pow(static_cast<double>((*logits)[i] - expected[i]), 2);
      }
      // A product differs by about 1 %; random weights, which amplify, make up to 9 % of that.
      EXPECT_LT(std::sqrt(difference / norm), 0.15) << mix << " in batches of " << n_batch;
    }
  }
}

TEST(Session, TruncateForgetsTheTail) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string path = to_gguf(checkpoint.directory, "F32");
  const auto tokens = some_tokens(20);
  Session session = open_session(path, kExact);
  const auto first = session.eval(tokens, 1);
  ASSERT_TRUE(first.has_value());
  const std::vector<float> expected(first->begin(), first->end());
  session.truncate(5);
  EXPECT_EQ(session.n_past(), 5u);
  const auto again = session.eval(std::span(tokens).subspan(5), 1);
  ASSERT_TRUE(again.has_value());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR((*again)[i], expected[i], 1e-4);
}

TEST(Session, RefusesWhatDoesNotFit) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string path = to_gguf(checkpoint.directory, "F32");
  Session session = open_session(path, {.n_ctx = 8});
  const auto tokens = some_tokens(9);
  const auto full = session.eval(tokens);
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, ErrorCode::kTooLarge);
  EXPECT_EQ(session.n_past(), 0u);
  const tokenizer::Token outside = 300;
  EXPECT_FALSE(session.eval({&outside, 1}).has_value());

  auto model = Model::open(path);
  ASSERT_TRUE(model.has_value());
  const auto huge = Session::create(*model, {.n_ctx = size_t{1} << 40});
  ASSERT_FALSE(huge.has_value());
  EXPECT_EQ(huge.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(huge.error().message.find("use -c "), std::string::npos) << huge.error().message;
}

/// Rotated keys and values in a cache that rounds nothing change nothing.
TEST(Session, ARotatedCacheComputesTheSame) {
  for (const auto& [head_dim, n_kv] : {std::pair(32, 2), {12, 1}, {64, 2}, {20, 4}}) {
    Json config = test::tiny_config();
    config["head_dim"] = head_dim;
    config["num_key_value_heads"] = n_kv;
    const auto checkpoint = test::make_tiny_checkpoint(config);
    const std::string path = to_gguf(checkpoint.directory, "F32");
    const auto tokens = some_tokens(60);
    SessionOptions options = kExact;
    options.cache_rotation = CacheRotation::kNever;
    Session plain = open_session(path, options);
    options.cache_rotation = CacheRotation::kAlways;
    Session rotated = open_session(path, options);
    EXPECT_TRUE(rotated.cache().types().rotate_keys && rotated.cache().types().rotate_values);
    EXPECT_EQ(rotated.cache().types().describe(), "F32 rotated/F32 rotated");
    for (const size_t n : {1, 40, 1, 18}) {  // as generating goes and as prompts go
      const auto part = std::span(tokens).subspan(plain.n_past(), n);
      const auto expected = plain.eval(part, n), logits = rotated.eval(part, n);
      ASSERT_TRUE(expected && logits);
      for (size_t i = 0; i < expected->size(); ++i) ASSERT_NEAR((*logits)[i], (*expected)[i], 1e-4) << head_dim << ", " << i;
    }
    // What is kept is not the same: keys were rotated.
    const KvCache::Layer &a = plain.cache().layer(0), &b = rotated.cache().layer(0);
    EXPECT_NE(std::memcmp(a.keys, b.keys, plain.cache().key_bytes()), 0);
    EXPECT_NE(std::memcmp(a.values, b.values, plain.cache().value_bytes()), 0);
  }
}

TEST(Session, QuantizedCachesAreRotatedUnlessToldOtherwise) {
  models::Hparams h;
  h.head_dim = 32;
  const auto types = [&](quant::Type keys, quant::Type values, CacheRotation rotation) {
    return cache_of({.key_type = keys, .value_type = values, .cache_rotation = rotation}, h).describe();
  };
  using quant::Type;
  EXPECT_EQ(types(Type::Q8_0, Type::F16, CacheRotation::kWhereQuantized), "Q8_0 rotated/F16");
  EXPECT_EQ(types(Type::F16, Type::Q4_0, CacheRotation::kWhereQuantized), "F16/Q4_0 rotated");
  EXPECT_EQ(types(Type::Q8_0, Type::Q8_0, CacheRotation::kNever), "Q8_0/Q8_0");
  EXPECT_EQ(types(Type::F16, Type::F16, CacheRotation::kAlways), "F16 rotated/F16 rotated");
  h.head_dim = 27;
  EXPECT_EQ(types(Type::Q8_0, Type::F16, CacheRotation::kWhereQuantized), "Q8_0/F16");
  h.layers = {{1, 1, 32}};
  const auto odd = KvCache::create(h, 8, {.rotate_keys = true});
  ASSERT_FALSE(odd.has_value());
  EXPECT_NE(odd.error().message.find("27"), std::string::npos) << odd.error().message;
}

TEST(Session, RoundedActivationsComeCloserWithMoreBits) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string path = to_gguf(checkpoint.directory, "F32");
  const auto tokens = some_tokens(20);
  Session exact = open_session(path, kExact);
  const auto reference = exact.eval(tokens, 1);
  ASSERT_TRUE(reference.has_value());
  double last = 1e9;
  for (const int bits : {3, 5, 8, 16}) {
    Session session = open_session(path, kExact);
    session.round_activations(bits);
    const auto logits = session.eval(tokens, 1);
    ASSERT_TRUE(logits.has_value());
    double squares = 0;
    for (size_t i = 0; i < logits->size(); ++i) squares += std::pow(static_cast<double>((*logits)[i] - (*reference)[i]), 2);
    EXPECT_LT(squares, last / 4) << bits;
    EXPECT_GT(squares, 0) << bits;
    last = squares;
  }
}

TEST(Session, F16AndQ8CachesStayCloseToF32) {
  Json config = test::tiny_config();
  config["head_dim"] = 32;
  const auto checkpoint = test::make_tiny_checkpoint(config);
  const std::string path = to_gguf(checkpoint.directory, "F32");
  const auto tokens = some_tokens(30);
  Session exact = open_session(path, kExact);
  const auto reference = exact.eval(tokens, 1);
  ASSERT_TRUE(reference.has_value());
  for (const auto& [type, tolerance] : {std::pair{quant::Type::F16, 0.01}, {quant::Type::Q8_0, 0.3}}) {
    SessionOptions options = kExact;
    options.key_type = options.value_type = type;
    Session session = open_session(path, options);
    const auto logits = session.eval(tokens, 1);
    ASSERT_TRUE(logits.has_value());
    double worst = 0;
    for (size_t i = 0; i < logits->size(); ++i) worst = std::max(worst, std::abs(static_cast<double>((*logits)[i] - (*reference)[i])));
    EXPECT_LT(worst, tolerance);
    EXPECT_GT(worst, 0);
    EXPECT_LT(session.cache().bytes(), exact.cache().bytes());
  }
}

}  // namespace
}  // namespace shoehorn::engine
