// Streamed passes against one graph over the whole model, and against finite differences.
#include "compress/block_stream.h"

#include <gtest/gtest.h>

#include "compress/prune/evidence.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

using models::Role;

struct Fixture {
  explicit Fixture(const std::string& directory, Compute compute, uint64_t store_bytes = uint64_t{1} << 30)
      : loader(open(directory), compute, true), model(loader.hparams(), compute), store(test::temp_dir(), store_bytes),
        stream(loader, model, store, progress, alone) {}

  static convert::OpenedCheckpoint open(const std::string& directory) {
    NoProgress quiet;
    auto checkpoint = convert::open_checkpoint(directory, quiet);
    EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
    return std::move(*checkpoint);
  }

  NoProgress progress;
  Peers alone;
  BlockLoader loader;
  TorchModel model;
  ActivationStore store;
  BlockStream stream;
};

at::Tensor some_ids(int64_t n, int64_t n_tokens, int64_t n_vocab) {
  return (at::arange(n * n_tokens, at::kLong) * 7919 + 13).remainder(n_vocab).view({n, n_tokens});
}

/// The mean loss over samples of mean losses over tokens, as one graph.
at::Tensor whole_loss(Fixture& f, const std::vector<TensorSet>& weights, const at::Tensor& ids) {
  at::Tensor x = f.loader.embed(ids);
  for (const TensorSet& block : weights) x = f.model.block(block, x);
  const at::Tensor log_shares = at::log_softmax(f.model.logits(f.loader.head(), x), -1).narrow(1, 0, ids.size(1) - 1);
  return -log_shares.gather(2, ids.narrow(1, 1, ids.size(1) - 1).unsqueeze(2)).mean();
}

std::vector<TensorSet> all_weights(Fixture& f) {
  std::vector<TensorSet> out;
  for (size_t layer = 0; layer < f.loader.hparams().n_layer; ++layer) out.push_back(f.loader.block(layer));
  return out;
}

/// |w g| summed over each unit, g from one graph over the whole model.
std::map<int, at::Tensor> whole_scores(Fixture& f, const Target& target, const at::Tensor& ids) {
  std::vector<TensorSet> weights = all_weights(f);
  std::vector<at::Tensor> leaves;
  std::vector<std::pair<int, Role>> places;
  for (size_t layer = 0; layer < weights.size(); ++layer) {
    for (const Role role : cut_roles(f.loader.architecture(), f.loader.hparams().layers[layer], f.loader.hparams().head_dim, target, false)) {
      if (!weights[layer][role].defined()) continue;
      weights[layer][role] = weights[layer][role].detach().requires_grad_(true);
      leaves.push_back(weights[layer][role]);
      places.emplace_back(static_cast<int>(layer), role);
    }
  }
  const auto gradients = torch::autograd::grad({whole_loss(f, weights, ids)}, leaves);
  std::map<int, at::Tensor> out;
  for (size_t layer = 0; layer < weights.size(); ++layer) {
    LayerEvidence evidence{&target, &f.loader.architecture(), f.loader.hparams().layers[layer], f.loader.hparams().head_dim, -1, {}, {}, {}, {}};
    for (size_t i = 0; i < places.size(); ++i) {
      if (places[i].first != static_cast<int>(layer)) continue;
      evidence.weights[places[i].second] = leaves[i].detach().to(at::kDouble);
      evidence.gradient[places[i].second] = gradients[i].to(at::kDouble);
    }
    out[static_cast<int>(layer)] = find_method("taylor")->scores(evidence, {});
  }
  return out;
}

GradientScores streamed_scores(Fixture& f, const Target& target, const at::Tensor& ids, int64_t micro_batch, const PruneSettings& settings = {}) {
  const std::set<int> none;
  auto work = WorkDirectory::open(test::temp_dir() + "/out", {}, false, f.alone);
  EXPECT_TRUE(work.has_value()) << work.error().message;
  const GradientTask task{find_method("taylor"), &settings, {&target}, 0, static_cast<int>(f.loader.hparams().n_layer) - 1, &none,
                          split_batches(ids, micro_batch), ids.size(0)};
  auto scores = gradient_scores(f.stream, task, *work);
  EXPECT_TRUE(scores.has_value()) << scores.error().message;
  return std::move(*scores);
}

void expect_equal_scores(const std::string& directory, int64_t n_tokens) {
  for (const char* name : {"mlp", "attention", "heads"}) {
    const Target& target = *find_target(name);
    for (const int64_t micro_batch : {1, 3}) {
      Fixture f(directory, {at::kCPU, at::kFloat}, 100000);  // most activations go to disk
      const at::Tensor ids = some_ids(5, n_tokens, f.loader.hparams().n_vocab);
      const auto streamed = streamed_scores(f, target, ids, micro_batch);
      EXPECT_GT(f.store.bytes_on_disk(), 0u);
      for (const auto& [layer, expected] : whole_scores(f, target, ids)) {
        const at::Tensor found = streamed.at({layer, target.name, -1});
        const double error = ((found - expected).abs() / (expected.abs() + 1e-12)).max().item<double>();
        EXPECT_LT(error, 1e-3) << name << " layer " << layer;
        EXPECT_LT((found - expected).norm().item<double>(), 1e-4 * expected.norm().item<double>()) << name << " layer " << layer;
      }
    }
  }
}

TEST(BlockStream, ImportanceEqualsOneGraphOverTheWholeModel) { expect_equal_scores(test::make_tiny_checkpoint(test::tiny_config()).directory, 24); }

TEST(BlockStream, ImportanceEqualsOneGraphOnARealModel) { expect_equal_scores(test::source_dir() + "/models/fable-10m", 64); }

TEST(BlockStream, Bf16KeepsTheSameNeurons) {
  const std::string directory = test::source_dir() + "/models/fable-10m";
  const Target& target = *find_target("mlp");
  Fixture wide(directory, {at::kCPU, at::kFloat}), narrow(directory, {at::kCPU, at::kBFloat16});
  const at::Tensor ids = some_ids(8, 64, wide.loader.hparams().n_vocab);
  const auto a = streamed_scores(wide, target, ids, 4), b = streamed_scores(narrow, target, ids, 4);
  int64_t same = 0, all = 0;
  for (const auto& [where, scores] : a) {
    const auto kept_a = *highest(scores, 768), kept_b = *highest(b.at(where), 768);
    std::vector<int64_t> both;
    std::set_intersection(kept_a.begin(), kept_a.end(), kept_b.begin(), kept_b.end(), std::back_inserter(both));
    same += static_cast<int64_t>(both.size());
    all += 768;
  }
  EXPECT_GE(static_cast<double>(same), 0.98 * static_cast<double>(all));
}

TEST(BlockStream, GradientsEqualFiniteDifferencesInDoublePrecision) {
  Fixture f(test::make_tiny_checkpoint(test::tiny_config()).directory, {at::kCPU, at::kDouble});
  const at::Tensor ids = some_ids(3, 12, 256);
  std::vector<TensorSet> weights = all_weights(f);
  // One neuron's gate row, scaled by 1 + s: d loss / d s = sum of w g over the row.
  for (const Role role : {Role::kFfnGate, Role::kFfnUp, Role::kAttnQ, Role::kAttnV}) {
    for (const size_t layer : {size_t{0}, size_t{2}}) {
      std::vector<TensorSet> leaves = weights;
      leaves[layer][role] = weights[layer][role].detach().requires_grad_(true);
      const at::Tensor gradient = torch::autograd::grad({whole_loss(f, leaves, ids)}, {leaves[layer][role]})[0];
      const double expected = (weights[layer][role] * gradient)[5].sum().item<double>();
      double loss[2];
      for (const int side : {0, 1}) {
        std::vector<TensorSet> moved = weights;
        moved[layer][role] = weights[layer][role].clone();
        moved[layer][role][5].mul_(side == 0 ? 1 - 1e-5 : 1 + 1e-5);
        at::NoGradGuard no_gradient;
        loss[side] = whole_loss(f, moved, ids).item<double>();
      }
      EXPECT_NEAR((loss[1] - loss[0]) / 2e-5, expected, 1e-6 * (1 + std::abs(expected)));
    }
  }
}

TEST(BlockStream, SecondOrderUsesEverySamplesOwnGradient) {
  Fixture f(test::make_tiny_checkpoint(test::tiny_config()).directory, {at::kCPU, at::kFloat});
  const Target& target = *find_target("mlp");
  const at::Tensor ids = some_ids(4, 16, 256);
  PruneSettings settings;
  settings.taylor = "second";
  const auto streamed = streamed_scores(f, target, ids, 1, settings);
  at::Tensor expected;
  for (int64_t n = 0; n < 4; ++n) {
    std::vector<TensorSet> weights = all_weights(f);
    TensorSet& block = weights[1];
    std::vector<at::Tensor> leaves;
    for (const Role role : {Role::kFfnGate, Role::kFfnUp, Role::kFfnDown}) {
      block[role] = block[role].detach().requires_grad_(true);
      leaves.push_back(block[role]);
    }
    const auto g = torch::autograd::grad({whole_loss(f, weights, ids.narrow(0, n, 1))}, leaves);
    const at::Tensor part = ((leaves[0] * g[0]).square().sum(1) + (leaves[1] * g[1]).square().sum(1) + (leaves[2] * g[2]).square().sum(0)).detach() / 4;
    expected = expected.defined() ? expected + part : part;
  }
  const at::Tensor found = streamed.at({1, target.name, -1});
  EXPECT_LT((found - expected).norm().item<double>(), 1e-4 * expected.norm().item<double>());
}

TEST(ActivationStore, GivesBackWhatItTookFromMemoryAndDisk) {
  ActivationStore store(test::temp_dir(), 1000);
  std::vector<at::Tensor> tensors;
  std::vector<ActivationStore::Slot> slots;
  for (int i = 0; i < 8; ++i) {
    tensors.push_back(at::full({10, 10}, i, i % 2 == 0 ? at::kFloat : at::kBFloat16));
    slots.push_back(*store.put(tensors.back()));
  }
  EXPECT_GT(store.bytes_on_disk(), 0u);
  EXPECT_LE(store.bytes_in_memory(), 1000u);
  for (size_t i = 0; i < slots.size(); ++i) EXPECT_TRUE(at::equal(*store.get(slots[i]), tensors[i]));
  const uint64_t before = store.bytes_on_disk();
  store.drop(slots[6]);
  slots[6] = *store.put(at::full({10, 10}, 42.0f));
  EXPECT_EQ(store.bytes_on_disk(), before) << "freed space is not used again";
  EXPECT_EQ((*store.get(slots[6]))[3][3].item<float>(), 42);
  EXPECT_EQ((*store.get(slots[5]))[3][3].item<float>(), 5);
}

}  // namespace
}  // namespace shoehorn::compress
