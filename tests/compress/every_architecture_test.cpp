// Each architecture the whole way: pruned, healed, quantized by what it reads, run, and its adapter beside the weights that it is for.
#include <gtest/gtest.h>

#include <cmath>

#include "compress/calibrate/calibrated.h"
#include "compress/heal/heal.h"
#include "compress/heal/lora.h"
#include "compress/prune/prune.h"
#include "engine/adapter.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

std::string some_text() {
  std::string text;
  for (int i = 0; i < 6000; ++i) text += static_cast<char>('a' + (i * 7 + i / 5 * 3) % 26);
  return text;
}

class EveryArchitecture : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { test::write_text(text, some_text()); }

  std::string pruned(const std::string& model) const {
    PruneOptions options;
    options.model = model;
    options.out = test::temp_dir() + "/pruned";
    options.method = "wanda";
    options.targets = {"mlp"};
    options.ratio = 0.34;
    options.multiple_of = 32;
    options.calib = text;
    options.samples = 8;
    options.seq_len = 32;
    options.dtype = "f32";
    options.n_threads = 1;
    NoProgress progress;
    const auto report = prune(options, progress);
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return options.out;
  }

  std::string healed(const std::string& model) const {
    HealOptions options;
    options.model = model;
    options.out = test::temp_dir() + "/healed";
    options.data = text;
    options.lora.targets = *parse_projections({"q_proj", "v_proj", "o_proj", "up_proj", "down_proj"});
    options.adamw.lr = 5e-3;
    options.adamw.warmup = 1;
    options.batch = 4;
    options.micro_batch = 2;
    options.cutoff = 32;
    options.max_steps = 4;
    options.validate_every = 4;
    options.compute_dtype = "f32";
    options.n_threads = 1;
    NoProgress progress;
    const auto report = heal(options, progress);
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return options.out;
  }

  std::string quantized(const std::string& model, const std::string& method) const {
    CalibratedOptions options;
    options.model = model;
    options.out = test::temp_dir() + "/out.gguf";
    options.method = method;
    options.calib = text;
    options.samples = 8;
    options.seq_len = 32;
    options.dtype = "f32";
    convert::OutputOptions output;
    output.mix = quant::find_mix("Q8_0");
    output.n_threads = 1;
    NoProgress progress;
    const auto report = quantize_calibrated(options, output, progress);
    EXPECT_TRUE(report.has_value()) << report.error().message;
    return options.out;
  }

  static std::vector<float> logits_of(const std::string& path, const std::string& adapter = "") {
    engine::Session session = test::exact_session(path);
    if (!adapter.empty()) {
      auto opened = engine::Adapter::open(adapter, session.shared_model());
      EXPECT_TRUE(opened.has_value()) << opened.error().message;
      session.adapt({{*opened, 1.0f}});
    }
    return test::logits_of(std::move(session));
  }

  const std::string text = test::temp_dir() + "/text.txt";
};

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float v : values) most = std::max(most, std::abs(static_cast<double>(v)));
  return most;
}

double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return worst;
}

TEST_P(EveryArchitecture, GoesTheWholeWay) {
  const std::string dense = test::make_tiny_checkpoint(test::as_architecture(test::tiny_config(), GetParam())).directory;
  const std::string small = pruned(dense), whole = healed(small);
  ASSERT_FALSE(HasFailure());
  const auto config = models::read_model_config(small);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  for (const models::LayerShape& layer : config->hparams.layers) EXPECT_EQ(layer.n_ff, 64u) << "of 96";

  const std::vector<float> exact = logits_of(test::to_gguf(whole, "F32"));
  EXPECT_GT(worst_difference(logits_of(test::to_gguf(small, "F32")), exact), 1e-3 * largest(exact)) << "healing changed something";
  EXPECT_LT(worst_difference(logits_of(test::to_gguf(small, "F32"), whole + "/adapter/adapter.gguf"), exact), 1e-4 * (1 + largest(exact)));
  for (const char* method : {"rtn", "awq", "gptq"}) {
    const std::vector<float> rounded = logits_of(quantized(whole, method));
    double off = 0, all = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      off += std::pow(static_cast<double>(rounded[i] - exact[i]), 2);
      all += std::pow(static_cast<double>(exact[i]), 2);
    }
    EXPECT_LT(off, 0.05 * all) << method << ": rows in another's place would give 1";
  }
}

std::vector<std::string> all_names() {
  std::vector<std::string> out;
  for (const models::Architecture* architecture : models::architectures()) {
    for (const std::string_view name : architecture->hf_architectures) out.emplace_back(name);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Models, EveryArchitecture, testing::ValuesIn(all_names()), [](const auto& parameter) { return parameter.param; });

}  // namespace
}  // namespace shoehorn::compress
