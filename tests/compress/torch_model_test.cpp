// The torch model against the plain forward pass and against the engine, on the same weights.
#include <gtest/gtest.h>

#include "compress/block_loader.h"
#include "compress/rotate/learn.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

/// activation_bits: what projections read is rounded to so many, a scale per token; 0: not.
at::Tensor torch_logits(const std::string& directory, const std::vector<int>& tokens, Compute compute, int activation_bits = 0) {
  NoProgress progress;
  auto checkpoint = convert::open_checkpoint(directory, progress);
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  BlockLoader loader(std::move(*checkpoint), compute, false);
  const TorchModel model(loader.hparams(), compute);
  at::NoGradGuard no_gradient;
  at::Tensor x = loader.embed(at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), at::kLong).unsqueeze(0));
  for (size_t layer = 0; layer < loader.hparams().n_layer; ++layer) {
    const TensorSet weights = loader.block(layer);
    x = model.block(weights, x, [&](models::WeightId id, const at::Tensor& input) {
      return project(weights, id, activation_bits > 0 ? round_activations(input, activation_bits) : input);
    });
  }
  return model.logits(loader.head(), x)[0];
}

std::vector<float> engine_logits(const std::string& directory, const std::vector<int>& tokens, int activation_bits = 0) {
  engine::Session session = test::exact_session(test::to_gguf(directory));
  session.round_activations(activation_bits);
  return test::logits_of(std::move(session), tokens);
}

double worst_difference(const at::Tensor& a, const at::Tensor& b) { return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>(); }

void expect_parity(const Json& config) {
  const auto checkpoint = test::make_tiny_checkpoint(config);
  const auto tokens = test::some_tokens();
  const auto plain = test::plain_forward(checkpoint, tokens);
  at::Tensor expected = at::empty({static_cast<int64_t>(plain.size()), static_cast<int64_t>(plain[0].size())}, at::kDouble);
  for (size_t t = 0; t < plain.size(); ++t) {
    std::copy(plain[t].begin(), plain[t].end(), expected.data_ptr<double>() + t * plain[t].size());
  }
  EXPECT_GT(expected.abs().max().item<double>(), 0.5);
  EXPECT_LT(worst_difference(torch_logits(checkpoint.directory, tokens, {at::kCPU, at::kFloat}), expected), 1e-4);
  // rms_norm_eps, theta and LongRoPE's magnitude are floats in the model's description: doubles agree to that.
  EXPECT_LT(worst_difference(torch_logits(checkpoint.directory, tokens, {at::kCPU, at::kDouble}), expected), 3e-6);
  const double scale = expected.abs().max().item<double>();
  // In half precision a near-tie sends a token to another expert.
  if (!config.contains("num_experts_per_tok")) {
    EXPECT_LT(worst_difference(torch_logits(checkpoint.directory, tokens, {at::kCPU, at::kBFloat16}), expected), 0.1 * scale);
  }
  const auto engine = engine_logits(checkpoint.directory, tokens);
  const at::Tensor from_engine = at::tensor(engine).view(expected.sizes());
  EXPECT_LT(worst_difference(torch_logits(checkpoint.directory, tokens, {at::kCPU, at::kFloat}), from_engine), 1e-4);
}

TEST(TorchModel, EveryArchitectureEqualsThePlainPassAndTheEngine) {
  for (const models::Architecture* architecture : models::architectures()) {
    for (const std::string_view name : architecture->hf_architectures) {
      SCOPED_TRACE(name);
      expect_parity(test::as_architecture(test::tiny_config(), name));
    }
  }
}

// What BitNet b1.58 computes (Ma et al. 2024, arXiv:2402.17764, section 2). Sums in another order send a value between two
// integers to the other one now and then, which all later positions see: many short texts, of which most have none.
TEST(TorchModel, ActivationsRoundedPerTokenAreThoseOfTheEngine) {
  constexpr int kTexts = 16, kLength = 4;
  const auto tokens = test::some_tokens(kTexts * kLength);
  for (const std::string_view name : {"BitnetForCausalLM", "BitNetForCausalLM", "LlamaForCausalLM"}) {
    SCOPED_TRACE(name);
    const auto checkpoint = test::make_tiny_checkpoint(test::as_architecture(test::tiny_config(), name));
    int equal = 0;
    for (int i = 0; i < kTexts; ++i) {
      const std::vector<int> text(tokens.begin() + i * kLength, tokens.begin() + (i + 1) * kLength);
      const at::Tensor exact = torch_logits(checkpoint.directory, text, {at::kCPU, at::kFloat});
      const at::Tensor rounded = torch_logits(checkpoint.directory, text, {at::kCPU, at::kFloat}, 8);
      const at::Tensor from_engine = at::tensor(engine_logits(checkpoint.directory, text, 8)).view(rounded.sizes());
      const double effect = (rounded - exact).norm().item<double>();
      EXPECT_GT(effect, 0.01 * exact.norm().item<double>());
      const double difference = (rounded - from_engine).norm().item<double>();
      EXPECT_LT(difference, effect);
      equal += difference < 1e-3 * effect;
    }
    EXPECT_GE(equal, kTexts * 3 / 4);
  }
}

TEST(TorchModel, BiasesTiedEmbeddingsAndPartialRope) {
  Json config = test::tiny_config();
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  config["tie_word_embeddings"] = true;
  expect_parity(config);
}

TEST(TorchModel, RopeScaling) {
  Json config = test::tiny_config();
  config["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 16}};
  expect_parity(config);
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  expect_parity(config);
}

TEST(TorchModel, JaggedLayersAndLayersWithoutAttention) {
  Json config = test::tiny_config();
  config["intermediate_size"] = {96, 64, 32};
  config["num_attention_heads"] = {4, 2, 0};
  config["num_key_value_heads"] = {2, 1, 0};
  expect_parity(config);
}

}  // namespace
}  // namespace shoehorn::compress
