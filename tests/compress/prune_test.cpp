// Pruning as a whole: what is kept, what is written, what is refused, and that an interruption changes nothing.
#include "compress/prune/prune.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "compress/linear_algebra.h"
#include "compress/prune/widths.h"
#include "convert/gguf_output.h"
#include "support/resume.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

namespace fs = std::filesystem;
using test::contents;
using test::StopsAfter;

std::string some_text() {
  std::string text;
  for (int i = 0; i < 4000; ++i) text += static_cast<char>('a' + (i * 7 + i / 5 * 3 + i / 97) % 26);
  return text;
}

PruneOptions tiny_options(const std::string& model, const std::string& method) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/calib.txt", some_text());
  PruneOptions options;
  options.model = model;
  options.out = dir + "/out";
  options.method = method;
  options.calib = dir + "/calib.txt";
  options.samples = 12;
  options.seq_len = 32;
  options.multiple_of = 16;
  options.dtype = "f32";
  options.n_threads = 1;
  return options;
}

PruneReport pruned(const PruneOptions& options) {
  NoProgress progress;
  auto report = prune(options, progress);
  EXPECT_TRUE(report.has_value()) << report.error().message;
  return report ? std::move(*report) : PruneReport{};
}

std::string refused(const PruneOptions& options) {
  NoProgress progress;
  const auto report = prune(options, progress);
  EXPECT_FALSE(report.has_value());
  EXPECT_FALSE(fs::exists(options.out));
  return report ? "" : report.error().message;
}

models::ModelConfig config_of(const std::string& directory) {
  auto config = models::read_model_config(directory);
  EXPECT_TRUE(config.has_value()) << config.error().message;
  return std::move(*config);
}

TEST(Prune, KeptUnitsAreRoundedToTheMultiple) {
  EXPECT_EQ(kept_units(14336, 0.25, 256), 10752);
  EXPECT_EQ(kept_units(1024, 0.25, 256), 768);
  EXPECT_EQ(kept_units(1000, 0.25, 256), 768);
  EXPECT_EQ(kept_units(8, 0.25, 1), 6);
  EXPECT_EQ(kept_units(256, 0.99, 256), 256);
}

TEST(Prune, EveryMethodWritesAModelThatConverts) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  for (const Method* method : methods()) {
    SCOPED_TRACE(std::string(method->name));
    PruneOptions options = tiny_options(checkpoint.directory, std::string(method->name));
    options.targets = {"mlp", "attention"};
    options.first_layer = 1;
    options.ratio = 0.5;
    const PruneReport report = pruned(options);
    const auto config = config_of(options.out);
    EXPECT_EQ(config.hparams.layers[0].n_ff, 96u);
    for (const int layer : {1, 2}) {
      EXPECT_EQ(config.hparams.layers[layer].n_ff, 48u);
      EXPECT_EQ(config.hparams.layers[layer].n_head, 2u);
      EXPECT_EQ(config.hparams.layers[layer].n_head_kv, 1u);
    }
    EXPECT_EQ(report.parameters_after, models::count_parameters(*config.architecture, config.hparams));
    EXPECT_TRUE(report.has_check);
    EXPECT_GT(report.kl, 0);
    NoProgress progress;
    auto source = convert::ModelSource::open(options.out, progress);
    ASSERT_TRUE(source.has_value()) << source.error().message;
    EXPECT_STREQ(source->architecture().name, "deci");
    EXPECT_TRUE(convert::write_gguf(*source, options.out + ".gguf", {.mix = quant::find_mix("F16")}, progress).has_value());
  }
}

TEST(Prune, MagnitudeKeepsTheLargestNeuronsWhole) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  PruneOptions options = tiny_options(checkpoint.directory, "magnitude");
  options.check = false;
  pruned(options);
  // The expected neurons, counted by hand.
  const std::string p = "model.layers.1.mlp.";
  const auto& gate = checkpoint.weights.at(p + "gate_proj.weight");
  const auto& up = checkpoint.weights.at(p + "up_proj.weight");
  const auto& down = checkpoint.weights.at(p + "down_proj.weight");
  std::vector<std::pair<double, int>> sizes;
  for (int j = 0; j < 96; ++j) {
    double sum = 0;
    for (int i = 0; i < 64; ++i) {
      for (const float w : {gate[j * 64 + i], up[j * 64 + i], down[i * 96 + j]}) sum += static_cast<double>(w) * static_cast<double>(w);
    }
    sizes.emplace_back(-sum, j);
  }
  std::sort(sizes.begin(), sizes.end());
  auto written = io::Checkpoint::open(options.out);
  ASSERT_TRUE(written.has_value()) << written.error().message;
  const auto* cut_gate = written->find(p + "gate_proj.weight");
  const auto* cut_down = written->find(p + "down_proj.weight");
  const size_t n = cut_gate->shape[0];
  ASSERT_EQ(n, 80u);  // 96 * 0.75 = 72, which is halfway: the larger multiple of 16
  std::vector<int> kept;
  for (size_t k = 0; k < n; ++k) kept.push_back(sizes[k].second);
  std::sort(kept.begin(), kept.end());
  std::vector<float> rows(n * 64), columns(64 * n);
  io::read_floats(*cut_gate, 0, rows.size(), rows.data());
  io::read_floats(*cut_down, 0, columns.size(), columns.data());
  for (size_t k = 0; k < n; ++k) {
    for (size_t i = 0; i < 64; ++i) {
      ASSERT_EQ(rows[k * 64 + i], gate[static_cast<size_t>(kept[k]) * 64 + i]);
      ASSERT_EQ(columns[i * n + k], down[i * 96 + static_cast<size_t>(kept[k])]);
    }
  }
}

TEST(Prune, UnitsOfAttentionTakeTheQueryHeadsThatReadThem) {
  const models::LayerShape shape{6, 3, 0};
  const Target& groups = *find_target("attention");
  EXPECT_TRUE(at::equal(groups.elements(shape, 2, models::Dim::kQ), at::arange(12).view({3, 4})));
  EXPECT_TRUE(at::equal(groups.elements(shape, 2, models::Dim::kKv), at::arange(6).view({3, 2})));
  const Target& heads = *find_target("heads");
  // Query heads 0, 2, 4 are the first ones of their KV heads.
  EXPECT_TRUE(at::equal(heads.elements(shape, 2, models::Dim::kQ)[0], at::tensor({0, 1, 4, 5, 8, 9}, at::kLong)));
  EXPECT_FALSE(heads.elements(shape, 2, models::Dim::kKv).defined());
  ChangedLayer layer;
  layer.shape = shape;
  keep_units(heads, {{-1, {1}}}, 2, layer);
  EXPECT_EQ(layer.shape, (models::LayerShape{3, 3, 0}));
  EXPECT_TRUE(at::equal(layer.kept_q, at::tensor({2, 3, 6, 7, 10, 11}, at::kLong)));
  EXPECT_FALSE(layer.kept_kv.defined());
}

TEST(Prune, UnitsThatDoNothingGoFirstAndCostNothing) {
  // A model whose neurons 0, 3, 6 ... have zero down columns.
  auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  for (auto& [name, values] : checkpoint.weights) {
    if (!name.ends_with("down_proj.weight")) continue;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i % 96 % 3 == 0) values[i] = 0;
    }
  }
  const std::string dir = test::write_checkpoint(checkpoint);
  for (const char* method : {"wanda", "flap", "obs"}) {
    PruneOptions options = tiny_options(dir, method);
    options.ratio = 1.0 / 3;
    const PruneReport report = pruned(options);
    // What single precision leaves of zero, and obs's fit.
    EXPECT_LT(report.kl, method == std::string("obs") ? 1e-3 : 1e-8) << method;
  }
}

TEST(SlowPrune, ObsLosesLessThanTheOthers) {
  const std::string model = test::source_dir() + "/models/fable-10m";
  std::map<std::string, double> kl;
  for (const char* method : {"magnitude", "taylor", "obs"}) {
    PruneOptions options = tiny_options(model, method);
    options.calib = model + "/calib.txt";
    options.samples = 32;
    options.seq_len = 128;
    options.multiple_of = 256;
    options.first_layer = 1;
    options.last_layer = 6;
    kl[method] = pruned(options).kl;
  }
  EXPECT_LT(kl["obs"], 0.7 * kl["taylor"]);
  EXPECT_LT(kl["taylor"], kl["magnitude"]);
}

TEST(Prune, SearchedWidthsHaveTheSameTotalAndLoseNoMore) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  PruneOptions options = tiny_options(checkpoint.directory, "wanda");
  options.ratio = 1.0 / 3;
  const double uniform = pruned(options).kl;
  options.out += "2";
  options.search_widths = true;
  const PruneReport report = pruned(options);
  uint32_t total = 0;
  for (const auto& layer : config_of(options.out).hparams.layers) {
    total += layer.n_ff;
    EXPECT_EQ(layer.n_ff % 16, 0u);
  }
  EXPECT_EQ(total, 3u * 64);
  EXPECT_LE(report.kl, uniform);
}

TEST(Prune, CheapestWidthsAreFoundExactly) {
  const std::vector<WidthCost> costs = {{0, 4, 0, 0.0}, {0, 3, 0, 1.0}, {0, 2, 0, 5.0}, {1, 4, 0, 0.0}, {1, 3, 0, 0.1}, {1, 2, 0, 0.3},
                                        {2, 4, 0, 0.0}, {2, 3, 0, 0.2}, {2, 2, 0, 2.0}};
  const auto widths = cheapest_widths(costs, 9);
  ASSERT_TRUE(widths.has_value());
  EXPECT_EQ(*widths, (std::map<int, int64_t>{{0, 4}, {1, 2}, {2, 3}}));
  EXPECT_FALSE(cheapest_widths(costs, 5).has_value());
}

TEST(Prune, DropsTheLayerThatDoesNothing) {
  auto config = test::tiny_config();
  config["num_hidden_layers"] = 4;
  auto checkpoint = test::make_tiny_checkpoint(config);
  for (const char* name : {"model.layers.2.mlp.down_proj.weight", "model.layers.2.self_attn.o_proj.weight"}) {
    std::ranges::fill(checkpoint.weights.at(name), 0.0f);
  }
  const std::string dir = test::write_checkpoint(checkpoint);
  PruneOptions options = tiny_options(dir, "magnitude");
  options.targets = {"layers"};
  const PruneReport report = pruned(options);
  ASSERT_EQ(report.layers.size(), 1u);
  EXPECT_EQ(report.layers[0].layer, 2);
  EXPECT_TRUE(report.layers[0].dropped);
  EXPECT_LT(report.kl, 1e-9);
  EXPECT_EQ(config_of(options.out).hparams.n_layer, 3u);
}

TEST(Prune, RefusesBeforeWorkStarts) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  PruneOptions options = tiny_options(checkpoint.directory, "guess");
  EXPECT_NE(refused(options).find("taylor, magnitude, wanda, flap, obs"), std::string::npos);
  options = tiny_options(checkpoint.directory, "taylor");
  options.calib.clear();
  EXPECT_NE(refused(options).find("--calib"), std::string::npos);
  options = tiny_options(checkpoint.directory, "taylor");
  options.last_layer = 3;
  EXPECT_NE(refused(options).find("0 to 2"), std::string::npos);
  options = tiny_options(checkpoint.directory, "taylor");
  options.samples = 100000;
  EXPECT_NE(refused(options).find("100000 are wanted"), std::string::npos);
  options = tiny_options(checkpoint.directory, "obs");
  options.ram = 1 << 20;
  EXPECT_NE(refused(options).find("--ram"), std::string::npos);
  options = tiny_options(checkpoint.directory, "taylor");
  options.targets = {"attention", "heads"};
  EXPECT_NE(refused(options).find("same tensors"), std::string::npos);

  // q/k norms: no GGUF architecture that others load can say different widths.
  Json config = test::tiny_config();
  config["architectures"] = {"Qwen3ForCausalLM"};
  const auto qwen3 = test::make_tiny_checkpoint(config);
  options = tiny_options(qwen3.directory, "magnitude");
  options.first_layer = 1;
  EXPECT_NE(refused(options).find("--layers 0-2"), std::string::npos);
  options.first_layer = 0;
  options.check = false;
  pruned(options);

  // Every other layer sees a window: dropping one would change what those behind it see.
  options = tiny_options(test::make_tiny_checkpoint(test::as_architecture(test::tiny_config(), "Gemma2ForCausalLM")).directory, "magnitude");
  options.targets = {"layers"};
  EXPECT_NE(refused(options).find("depends on its place"), std::string::npos);
}

TEST(Prune, BrokenTextIsNamedByItsLine) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  PruneOptions options = tiny_options(checkpoint.directory, "wanda");
  options.calib = test::temp_dir() + "/calib.jsonl";
  test::write_text(options.calib, "{\"text\": \"abc\"}\n{\"text\": \n");
  EXPECT_NE(refused(options).find("calib.jsonl:2"), std::string::npos);
  test::write_text(options.calib, "");
  EXPECT_NE(refused(options).find("calib.jsonl"), std::string::npos);
}

TEST(Prune, ResumesToTheSameBytesFromAnyPoint) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  for (const char* method : {"taylor", "obs", "flap", "wanda"}) {
    PruneOptions options = tiny_options(checkpoint.directory, method);
    options.search_widths = method == std::string("wanda");
    if (!options.search_widths) options.targets = {"mlp", "attention"};
    pruned(options);
    const auto expected = contents(options.out);
    fs::remove_all(options.out);
    int stops = 0;
    for (int n = 1; n < 300; n += 1 + n / 4) {
      StopsAfter progress(n);
      options.resume = stops > 0;
      const auto report = prune(options, progress);
      if (report) break;
      ASSERT_EQ(report.error().code, ErrorCode::kCancelled) << report.error().message;
      ASSERT_FALSE(fs::exists(options.out));
      ++stops;
    }
    EXPECT_GE(stops, 2) << method;
    EXPECT_TRUE(contents(options.out) == expected) << method;
  }
}

TEST(Prune, AnInterruptedRunIsNotOverwrittenUnasked) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  PruneOptions options = tiny_options(checkpoint.directory, "taylor");
  StopsAfter stop(4);
  ASSERT_FALSE(prune(options, stop).has_value());
  EXPECT_NE(refused(options).find("--resume"), std::string::npos);
  options.resume = true;
  options.ratio = 0.5;
  EXPECT_NE(refused(options).find("other options"), std::string::npos);
  options.ratio = 0.25;
  const PruneReport report = pruned(options);
  // What is complete is told again, as often as it is asked for, and never written again.
  const auto expected = contents(options.out);
  NoProgress progress;
  const auto again = prune(options, progress);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->json(), report.json());
  EXPECT_TRUE(contents(options.out) == expected);
  PruneOptions other = options;
  other.ratio = 0.5;
  PruneOptions unasked = options;
  unasked.resume = false;
  for (const PruneOptions& o : {other, unasked}) {
    const auto result = prune(o, progress);
    ASSERT_FALSE(result.has_value());
    EXPECT_NE(result.error().message.find("exists already"), std::string::npos) << result.error().message;
  }
  EXPECT_TRUE(contents(options.out) == expected);
}

/// Remembers the notes.
class Notes : public NoProgress {
 public:
  void note(std::string_view text) override { text_ += std::string(text) + "\n"; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

TEST(Prune, TooLittleTextForObsIsSaid) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  PruneOptions options = tiny_options(checkpoint.directory, "obs");
  options.samples = 2;
  Notes few;
  ASSERT_TRUE(prune(options, few).has_value());
  EXPECT_NE(few.text().find("--samples"), std::string::npos) << few.text();
  options.out += "-enough";
  options.samples = 0;
  Notes enough;
  ASSERT_TRUE(prune(options, enough).has_value());
  EXPECT_EQ(enough.text().find("--samples"), std::string::npos) << enough.text();
}

TEST(LinearAlgebra, GramOfRowsAddedInPieces) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor x = at::randn({70, 131}, type), before = at::randn({131, 131}, type);
    at::Tensor h = before.tril();
    add_gram(h, x.narrow(0, 0, 33));
    // Rows that are not beside each other in memory.
    add_gram(h, x.narrow(0, 33, 37).t().contiguous().t());
    mirror_lower(h);
    const at::Tensor want = x.t().matmul(x) + before.tril() + before.tril(-1).t();
    EXPECT_LT((h - want).abs().max().item<double>(), type == at::kFloat ? 1e-4 : 1e-12);
    EXPECT_TRUE(h.equal(h.t()));
  }
}

TEST(LinearAlgebra, InverseAndSolutionOfAPositiveMatrix) {
  const at::Tensor x = at::randn({150, 131}, at::kDouble);
  const at::Tensor h = x.t().matmul(x) + at::eye(131, at::kDouble), b = at::randn({131, 7}, at::kDouble);
  at::Tensor inverse = h.clone(), solution = b.clone(), work = h.clone();
  ASSERT_TRUE(invert_positive(inverse).has_value());
  EXPECT_LT((inverse.matmul(h) - at::eye(131, at::kDouble)).abs().max().item<double>(), 1e-9);
  ASSERT_TRUE(solve_positive(work, solution).has_value());
  EXPECT_LT((h.matmul(solution) - b).abs().max().item<double>(), 1e-9);
  at::Tensor indefinite = -h;
  EXPECT_FALSE(invert_positive(indefinite).has_value());
}

}  // namespace
}  // namespace shoehorn::compress
