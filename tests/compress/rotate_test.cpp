// Rotations in the weights: the model computes the same.
#include "compress/rotate/rotate.h"

#include <gtest/gtest.h>

#include <filesystem>

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

/// Logits in double precision with every stored tensor as the fusion makes it; nullptr: as it is.
at::Tensor logits_of(const BlockLoader& loader, const Fusion* fusion) {
  const TorchModel model(loader.hparams(), kDouble);
  const auto tensor = [&](int layer, Role role, Role from) {
    const at::Tensor stored = loader.stored(layer, from);
    if (!stored.defined()) return stored;
    return fusion != nullptr ? (*fusion)(layer, role, stored) : stored.to(at::kDouble);
  };
  at::NoGradGuard no_gradient;
  at::Tensor x = tensor(-1, Role::kTokenEmbd, Role::kTokenEmbd).index_select(0, some_ids()).unsqueeze(0);
  for (int layer = 0; layer < static_cast<int>(loader.hparams().n_layer); ++layer) {
    TensorSet block;
    for (size_t i = 0; i < models::kRoleCount; ++i) {
      const Role role = static_cast<Role>(i);
      block[role] = tensor(layer, role, role);
    }
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
    for (const std::string_view name : architecture->hf_architectures) {
      out.emplace_back(name, test::tiny_config());
      out.back().second["architectures"] = {name};
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
  return out;
}

TEST(Fusion, LeavesTheLogitsInDoublePrecision) {
  for (const auto& [name, config] : shapes()) {
    const BlockLoader loader(opened(test::make_tiny_checkpoint(config).directory), kDouble, false);
    const at::Tensor expected = logits_of(loader, nullptr);
    for (const RotationKind kind : {RotationKind::kHadamard, RotationKind::kOrthogonal}) {
      for (const auto& [r1, r2] : {std::pair(true, true), {true, false}, {false, true}}) {
        const auto rotations = random_rotations(loader.hparams(), {.r1 = r1, .r2 = r2, .kind = kind, .seed = 3});
        ASSERT_TRUE(rotations.has_value()) << rotations.error().message;
        const Fusion fusion(loader, *rotations);
        EXPECT_LT(worst(logits_of(loader, &fusion), expected), 1e-8) << name << ", R1 " << r1 << ", R2 " << r2;
        const Role changed = r1 ? Role::kFfnDown : Role::kAttnV;
        const at::Tensor stored = loader.stored(0, changed).to(at::kDouble);
        EXPECT_GT(worst(fusion(0, changed, stored), stored), 0.01) << name << ": something was rotated";
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

TEST(Rotate, WritesACheckpointThatTheEngineComputesTheSameWith) {
  for (const auto& [name, config] : shapes()) {
    const auto checkpoint = test::make_tiny_checkpoint(config);
    const std::string out = test::temp_dir() + "/rotated";
    NoProgress progress;
    RotateOptions options;
    options.model = checkpoint.directory;
    options.out = out;
    options.result_dtype = "f32";
    const auto report = rotate(options, progress);
    ASSERT_TRUE(report.has_value()) << name << ": " << report.error().message;
    const bool tied = config.value("tie_word_embeddings", false);
    EXPECT_EQ(report->untied, tied) << name;
    const models::Hparams before = opened(checkpoint.directory).config.hparams, after = opened(out).config.hparams;
    EXPECT_EQ(after.layers, before.layers) << name;
    EXPECT_FALSE(after.tied_embeddings) << name;
    const auto expected = engine_logits(checkpoint.directory), logits = engine_logits(out);
    ASSERT_EQ(logits.size(), expected.size()) << name;
    for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 1e-3) << name << ", " << i;
  }
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
