#include "eval/profile.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "eval/bench.h"
#include "support/running_model.h"

namespace shoehorn::eval {
namespace {

using engine::Step;

std::vector<tokenizer::Token> tokens(const engine::Session& session, size_t n) {
  std::vector<tokenizer::Token> all;
  for (size_t i = 0; i < n; ++i) all.push_back(bench_token(session.n_past() + i, session.n_vocab()));
  return all;
}

/// Vectors (norms) are read too, but not counted.
uint64_t vector_bytes(const engine::Model& model) {
  uint64_t bytes = 0;
  for (const auto& tensor : model.file().tensors()) bytes += tensor.shape.size() == 1 ? tensor.data.size() : 0;
  return bytes;
}

/// Elements of a layer's matrices, or of some of them.
uint64_t elements(const engine::Model& model, size_t layer, std::initializer_list<const char*> names) {
  uint64_t n = 0;
  for (const char* name : names) n += model.file().find(fmt::format("blk.{}.{}.weight", layer, name))->n_elements();
  return n;
}

/// Of each expert as many weights as a token goes to.
void expect_every_weight_once(const std::string& path) {
  auto session = test::open_session(path, {.n_ctx = 64});
  ASSERT_TRUE(session.eval(tokens(session, 10)).has_value());
  StepProfiler profiler(session);
  ASSERT_TRUE(session.eval(tokens(session, 1)).has_value());
  const models::Hparams& h = session.model().hparams();
  uint64_t bytes = 0, macs = 0;
  for (const ProfileEntry& entry : profiler.entries()) {
    bytes += entry.bytes;
    macs += entry.macs;
    EXPECT_GT(entry.seconds, 0) << step_name(entry.step);
    const bool per_layer =
        entry.step != Step::kEmbedding && entry.step != Step::kOutputNorm && entry.step != Step::kOutput;
    EXPECT_EQ(entry.calls, per_layer ? h.n_layer : 1u) << step_name(entry.step);
  }
  const bool experts = h.n_expert > 0;
  EXPECT_EQ(profiler.entries().size(), engine::kStepCount - (experts ? 3 : 2)) << "all but the transform, and either experts or an MLP";
  EXPECT_EQ(bytes, pass_bytes(session, 10, 1, true) - vector_bytes(session.model()));
  uint64_t weights = 0;
  for (const auto& tensor : session.model().file().tensors()) {
    if (tensor.shape.size() == 2 && tensor.name != "token_embd.weight") weights += tensor.n_elements();
    if (tensor.shape.size() == 3) weights += tensor.n_elements() / h.n_expert * h.n_expert_used;
  }
  uint64_t attention = 0;
  for (const auto& layer : h.layers) attention += 2 * 11 * uint64_t{layer.n_head} * h.head_dim;
  EXPECT_EQ(macs, weights + attention);
}

TEST(Profile, AddsUpToTheBytesOfAPassAndToEveryWeightOncePerToken) {
  expect_every_weight_once(test::tiny_gguf());
  for (const char* name : {"MixtralForCausalLM", "Qwen2MoeForCausalLM"}) {
    SCOPED_TRACE(name);
    expect_every_weight_once(test::to_gguf(test::make_tiny_checkpoint(test::as_architecture(test::tiny_config(), name)).directory, "Q8_0"));
  }
}

TEST(Profile, AddsUpToTheBytesOfABatchWithoutLogits) {
  auto session = test::open_session(test::tiny_gguf(), {.n_ctx = 64});
  StepProfiler profiler(session);
  ASSERT_TRUE(session.eval(tokens(session, 9), 0).has_value());
  uint64_t bytes = 0;
  for (const ProfileEntry& entry : profiler.entries()) bytes += entry.bytes;
  EXPECT_EQ(bytes, pass_bytes(session, 0, 9, false) - vector_bytes(session.model()));
}

TEST(Profile, OfAPromptsLastLayerOnlyTheLastTokenComesOut) {
  auto session = test::open_session(test::tiny_gguf(), {.n_ctx = 64});
  ASSERT_TRUE(session.eval(tokens(session, 5)).has_value());
  StepProfiler profiler(session);
  ASSERT_TRUE(session.eval(tokens(session, 7)).has_value());
  const engine::Model& model = session.model();
  const models::Hparams& h = model.hparams();
  std::map<Step, uint64_t> expected;
  for (size_t i = 0; i < h.n_layer; ++i) {
    const bool last = i + 1 == h.n_layer;
    const uint64_t n_out = last ? 1 : 7;
    expected[Step::kQkv] += 7 * elements(model, i, {"attn_k", "attn_v"}) + n_out * elements(model, i, {"attn_q"});
    expected[Step::kAttentionOutput] += n_out * elements(model, i, {"attn_output"});
    expected[Step::kGateUp] += n_out * elements(model, i, {"ffn_gate", "ffn_up"});
    expected[Step::kDown] += n_out * elements(model, i, {"ffn_down"});
    for (uint64_t t = last ? 11 : 5; t < 12; ++t)
      expected[Step::kAttention] += 2 * (t + 1) * h.layers[i].n_head * h.head_dim;
  }
  expected[Step::kOutput] = model.output().n_rows * model.output().n_cols;
  for (const ProfileEntry& entry : profiler.entries())
    EXPECT_EQ(entry.macs, expected[entry.step]) << step_name(entry.step);
}

TEST(Profile, EndsWithTheProfiler) {
  auto session = test::open_session(test::tiny_gguf(), {.n_ctx = 64});
  {
    StepProfiler profiler(session);
    EXPECT_TRUE(profiler.entries().empty());
  }
  EXPECT_TRUE(session.eval(tokens(session, 3)).has_value()) << "an observer that is gone was told";
}

TEST(Profile, ChangesNoResult) {
  const std::string path = test::tiny_gguf();
  auto plain = test::open_session(path, {.n_ctx = 64}), watched = test::open_session(path, {.n_ctx = 64});
  StepProfiler profiler(watched);
  EXPECT_EQ(*logits_hash(plain), *logits_hash(watched));
}

TEST(Profile, EveryStepHasItsOwnName) {
  std::set<std::string> names;
  for (size_t i = 0; i < engine::kStepCount; ++i) names.insert(step_name(static_cast<Step>(i)));
  EXPECT_EQ(names.size(), engine::kStepCount);
  EXPECT_FALSE(names.contains(""));
}

}  // namespace
}  // namespace shoehorn::eval
