// Rotations in the weights: the model computes the same.
#include "compress/rotate/rotate.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "convert/checkpoint_view.h"
#include "engine/session.h"
#include "compress/work_directory.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

namespace fs = std::filesystem;
using models::Role;

double worst(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(Rotation, IsOrthogonalAndTheSameForASeed) {
  for (const RotationKind kind : {RotationKind::kHadamard, RotationKind::kOrthogonal}) {
    for (const int64_t n : {16, 48, 96, 118}) {
      const auto rotation = Rotation::random(kind, n, 5), again = Rotation::random(kind, n, 5),
                 other = Rotation::random(kind, n, 6);
      const at::Tensor identity = at::eye(n, at::kDouble), r = rotation->rows(identity);
      EXPECT_LT(worst(at::matmul(r, r.t()), identity), 1e-12) << n;
      EXPECT_EQ(worst(again->rows(identity), r), 0) << n;
      EXPECT_GT(worst(other->rows(identity), r), 0.01) << n;
      const at::Tensor w = at::randn({n, 7}, at::kDouble);
      EXPECT_LT(worst(rotation->columns(w), at::matmul(r.t(), w)), 1e-12) << n;
    }
  }
}

TEST(Rotation, OddOrdersAreRefused) {
  const auto odd = Rotation::random(RotationKind::kHadamard, 15, 0);
  ASSERT_FALSE(odd.has_value());
  EXPECT_NE(odd.error().message.find("15"), std::string::npos);
  EXPECT_TRUE(Rotation::random(RotationKind::kOrthogonal, 15, 0).has_value());
}

convert::OpenedCheckpoint opened(const std::string& directory) {
  NoProgress progress;
  auto checkpoint = convert::open_checkpoint(directory, progress);
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  return std::move(*checkpoint);
}

const Compute kDouble = {at::kCPU, at::kDouble};

at::Tensor some_ids() {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 19; ++i) ids.push_back((i * 37 + 11) % 256);
  return at::tensor(ids, at::kLong);
}

/// Logits in double precision with rotations in every stored tensor; nullptr: as it is.
at::Tensor logits_of(const BlockLoader& loader, const Rotations* rotations) {
  models::Hparams h = loader.hparams();
  h.ffn_hadamard |= rotations != nullptr && !rotations->r4.empty();
  const TorchModel model(h, kDouble);
  std::optional<Fusion> fusion;
  if (rotations != nullptr) fusion.emplace(loader, *rotations);
  const auto tensor = [&](int layer, models::WeightId id, models::WeightId from) {
    const at::Tensor stored = loader.stored(layer, from);
    if (!stored.defined()) return stored;
    const at::Tensor rotated = fusion ? (*fusion)(layer, id, stored) : stored.to(at::kDouble);
    return models::is_gain(id.role) ? rotated + static_cast<double>(loader.checkpoint().gain_offset) : rotated;
  };
  at::NoGradGuard no_gradient;
  at::Tensor x = tensor(-1, Role::kTokenEmbd, Role::kTokenEmbd).index_select(0, some_ids()).unsqueeze(0);
  x = x * static_cast<double>(h.embedding_scale);
  for (int layer = 0; layer < static_cast<int>(loader.hparams().n_layer); ++layer) {
    TensorSet block;
    block.attention = loader.hparams().layers[static_cast<size_t>(layer)].attention;
    for (const models::WeightId id : loader.weights_of(static_cast<size_t>(layer))) block[id] = tensor(layer, id, id);
    x = model.block(block, x);
  }
  TensorSet head;
  head[Role::kOutputNorm] = tensor(-1, Role::kOutputNorm, Role::kOutputNorm);
  head[Role::kOutput] = tensor(-1, Role::kOutput, loader.hparams().tied_embeddings ? Role::kTokenEmbd : Role::kOutput);
  return model.logits(head, x)[0];
}

/// Models that rotations must leave as they are.
std::vector<std::pair<std::string, Json>> shapes() {
  std::vector<std::pair<std::string, Json>> out;
  for (const models::Architecture* architecture : models::architectures()) {
    if (!models::can_rotate(*architecture)) continue;
    for (const std::string_view name : architecture->hf_architectures) {
      out.emplace_back(name, test::as_architecture(test::tiny_config(), name));
    }
  }
  Json config = test::tiny_config();
  config["attention_bias"] = true;
  config["mlp_bias"] = true;
  config["tie_word_embeddings"] = true;
  out.emplace_back("biases, tied", config);
  config = test::tiny_config();
  config["intermediate_size"] = {96, 64, 34};
  config["num_attention_heads"] = {4, 2, 0};
  config["num_key_value_heads"] = {2, 1, 0};
  out.emplace_back("jagged", config);
  config = test::tiny_config();
  config["num_key_value_heads"] = 1;
  config["head_dim"] = 12;
  config["hidden_size"] = 60;
  out.emplace_back("one KV head, orders that are no power of two", config);
  // And some that nobody thought of.
  std::mt19937 random(17);
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int i = 0; i < 4; ++i) {
    config = test::tiny_config();
    config["hidden_size"] = 4 * draw(5, 20);
    config["head_dim"] = 2 * draw(3, 12);
    config["mlp_bias"] = draw(0, 1) == 1;
    config["attention_bias"] = draw(0, 1) == 1;
    Json heads = Json::array(), kv_heads = Json::array(), widths = Json::array();
    for (int layer = 0; layer < 3; ++layer) {
      const bool attends = layer == 0 || draw(0, 2) > 0;
      const int n_kv = draw(1, 3);
      heads.push_back(attends ? n_kv * draw(1, 3) : 0);
      kv_heads.push_back(attends ? n_kv : 0);
      widths.push_back(layer > 0 && draw(0, 3) == 0 ? 0 : 2 * draw(8, 60));
    }
    config["num_attention_heads"] = heads;
    config["num_key_value_heads"] = kv_heads;
    config["intermediate_size"] = widths;
    // Stock readers size such biases by n_embd: jagged models have none.
    if (heads[0].get<int>() * config["head_dim"].get<int>() != config["hidden_size"]) config["attention_bias"] = false;
    out.emplace_back(config.dump(), config);
  }
  return out;
}

TEST(Fusion, LeavesTheLogitsInDoublePrecision) {
  for (const auto& [name, config] : shapes()) {
    const BlockLoader loader(opened(test::make_tiny_checkpoint(config).directory), kDouble, false);
    const at::Tensor expected = logits_of(loader, nullptr);
    for (const RotationKind kind : {RotationKind::kHadamard, RotationKind::kOrthogonal}) {
      for (int which = 1; which < 8; ++which) {
        const bool r1 = (which & 1) != 0, r2 = (which & 2) != 0, r4 = (which & 4) != 0;
        if (r1 && !models::can_rotate_residual(loader.architecture())) continue;
        const auto rotations = random_rotations(loader.hparams(), {.r1 = r1, .r2 = r2, .r4 = r4, .kind = kind, .seed = 3});
        ASSERT_TRUE(rotations.has_value()) << rotations.error().message;
        EXPECT_LT(worst(logits_of(loader, &*rotations), expected), 1e-8) << name << ", R1 " << r1 << ", R2 " << r2 << ", R4 " << r4;
        const int expert = loader.hparams().n_expert > 0 ? 0 : -1;
        const models::WeightId changed = r1 || r4 ? models::WeightId(Role::kFfnDown, expert) : models::WeightId(Role::kAttnV);
        const at::Tensor stored = loader.stored(0, changed).to(at::kDouble);
        EXPECT_GT(worst(Fusion(loader, *rotations)(0, changed, stored), stored), 0.01) << name << ": something was rotated";
      }
    }
  }
}

std::vector<float> engine_logits(const std::string& directory) {
  NoProgress progress;
  auto view = convert::view_checkpoint(directory, progress);
  EXPECT_TRUE(view.has_value()) << view.error().message;
  auto model = engine::Model::create(std::move(*view), models::RopeType::kNeox);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  auto session = engine::Session::create(
      *model, {.n_ctx = 64, .n_threads = 1, .key_type = quant::Type::F32, .value_type = quant::Type::F32});
  const at::Tensor ids = some_ids().to(at::kInt);
  const auto logits =
      session->eval({ids.data_ptr<int>(), static_cast<size_t>(ids.numel())}, static_cast<size_t>(ids.numel()));
  return {logits->begin(), logits->end()};
}

TEST(Rotate, LayerNormIsRefused) {
  for (const char* name : {"GPTNeoXForCausalLM", "MPTForCausalLM"}) {
    NoProgress progress;
    RotateOptions options;
    options.model = test::make_tiny_checkpoint(test::as_architecture(test::tiny_config(), name)).directory;
    options.out = test::temp_dir() + "/rotated";
    options.rotations = {.r1 = false, .r2 = true};
    const auto refused = rotate(options, progress);
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().message.find("LayerNorm"), std::string::npos) << refused.error().message;
  }
}

TEST(Rotate, WritesACheckpointThatTheEngineComputesTheSameWith) {
  for (const auto& [name, config] : shapes()) {
    const auto checkpoint = test::make_tiny_checkpoint(config);
    const bool r4 = (config["hidden_size"].get<int>() / 4) % 2 == 0;  // some with, some without
    const std::string out = test::temp_dir() + "/rotated";
    fs::remove_all(out);
    NoProgress progress;
    RotateOptions options;
    options.model = checkpoint.directory;
    options.out = out;
    options.result_dtype = "f32";
    options.rotations.r4 = r4;
    const bool tied = config.value("tie_word_embeddings", false);
    const bool r1 = models::can_rotate_residual(*opened(checkpoint.directory).config.architecture);
    if (!r1) {
      const auto refused = rotate(options, progress);
      ASSERT_FALSE(refused.has_value()) << name;
      EXPECT_NE(refused.error().message.find("--rotations r2"), std::string::npos) << refused.error().message;
      options.rotations.r1 = false;
    }
    const auto report = rotate(options, progress);
    ASSERT_TRUE(report.has_value()) << name << ": " << report.error().message;
    EXPECT_EQ(report->untied, tied && r1) << name;
    const models::Hparams before = opened(checkpoint.directory).config.hparams, after = opened(out).config.hparams;
    EXPECT_EQ(after.layers, before.layers) << name;
    EXPECT_EQ(after.tied_embeddings, tied && !r1) << name;
    EXPECT_EQ(after.ffn_hadamard, r4) << name;
    EXPECT_EQ(report->r4.empty(), !r4) << name;
    const auto expected = engine_logits(checkpoint.directory), logits = engine_logits(out);
    ASSERT_EQ(logits.size(), expected.size()) << name;
    for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 1e-3) << name << ", " << i;
  }
}

TEST(Rotate, WhatDownReadsIsRotatedOnce) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string dir = test::temp_dir();
  NoProgress progress;
  RotateOptions options;
  options.model = checkpoint.directory;
  options.out = dir + "/once";
  options.rotations.r4 = true;
  ASSERT_TRUE(rotate(options, progress).has_value());
  options.model = dir + "/once";
  options.out = dir + "/twice";
  const auto twice = rotate(options, progress);
  ASSERT_FALSE(twice.has_value());
  EXPECT_NE(twice.error().message.find("down_proj"), std::string::npos) << twice.error().message;
  options.rotations.r4 = false;
  const auto residual = rotate(options, progress);
  ASSERT_TRUE(residual.has_value()) << residual.error().message;
  EXPECT_TRUE(opened(dir + "/twice").config.hparams.ffn_hadamard);
  const auto expected = engine_logits(checkpoint.directory), logits = engine_logits(dir + "/twice");
  for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 0.05) << i;  // stored as BF16 twice
}

TEST(Rotate, ARefusedCheckLeavesNothing) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string out = test::temp_dir() + "/rotated";
  NoProgress progress;
  RotateOptions options;
  options.model = checkpoint.directory;
  options.out = out;
  options.check = [](const std::string& directory) -> Expected<Json> {
    EXPECT_TRUE(fs::exists(directory + "/config.json"));
    return fail(ErrorCode::kInvalid, "no good");
  };
  const auto refused = rotate(options, progress);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message, "no good");
  EXPECT_FALSE(fs::exists(out));
  options.check = [](const std::string&) -> Expected<Json> { return Json{{"kld_mean", 0.5}}; };
  const auto done = rotate(options, progress);
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_EQ(done->check["kld_mean"], 0.5);
  EXPECT_EQ(Json::parse(test::read_text(out + "/" + kReportFile))["rotated"]["r1"], "64");
}

}  // namespace
}  // namespace shoehorn::compress
