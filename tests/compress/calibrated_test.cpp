// Quantization by second moments: the matrices' algebra, and whole models.
#include "compress/calibrate/calibrated.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "compress/calibrate/awq.h"
#include "engine/session.h"
#include "support/resume.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

namespace fs = std::filesystem;

using test::StopsAfter;

/// Inputs whose columns go together.
at::Tensor correlated(int64_t n_tokens, int64_t n) {
  at::manual_seed(1);
  return at::randn({n_tokens, n}) + at::mm(at::randn({n_tokens, 12}), at::randn({12, n}));
}

TEST(MatrixQuantizer, TheFactorIsThatOfTheInverse) {
  const at::Tensor x = correlated(300, 96), gram = at::mm(x.t(), x);
  ASSERT_EXPECTED(const auto moments, second_moments(gram, 0.01));
  const at::Tensor u = moments.factor.to(at::kDouble), h = moments.h.to(at::kDouble);
  EXPECT_LT((at::mm(at::mm(u.t(), u), h) - at::eye(96, at::kDouble)).abs().max().item<double>(), 1e-3);
  EXPECT_EQ(u.tril(-1).abs().max().item<double>(), 0);
  EXPECT_NEAR(moments.h[3][3].item<double>(), gram[3][3].item<double>() + 0.01 * gram.diagonal().mean().item<double>(),
              1e-2);
}

TEST(MatrixQuantizer, ColumnsThatAreAlwaysZeroDoNoHarm) {
  at::Tensor x = correlated(300, 64);
  x.narrow(1, 10, 3).zero_();
  EXPECT_TRUE(second_moments(at::mm(x.t(), x), 0.01).has_value());
  EXPECT_TRUE(second_moments(at::zeros({64, 64}), 0.01).has_value()) << "a matrix that reads nothing";
  const auto broken = second_moments(at::full({64, 64}, NAN), 0.01);
  ASSERT_FALSE(broken.has_value());
  EXPECT_NE(broken.error().message.find("not finite"), std::string::npos);
}

TEST(MatrixQuantizer, LosesLessThanRoundingInEveryFormat) {
  for (const quant::Format& format : quant::formats()) {
    if (format.grid == nullptr) continue;
    // More than one panel, and a last one that is not whole where the format allows it; rows that do not fill the
    // lanes.
    const int64_t n_in = format.block_size == 256 ? 768 : 608, n_rows = 37;
    const at::Tensor x = correlated(1000, n_in), w = at::randn({n_rows, n_in}) * 0.02;
    ASSERT_EXPECTED(const auto moments, second_moments(at::mm(x.t(), x), 0.01));
    const QuantizedRows result = quantize_rows(w, moments, format, 6);
    const auto error_of = [&](const at::Tensor& blocks) {
      at::Tensor values = at::empty_like(w);
      for (int64_t row = 0; row < n_rows; ++row) {
        format.decode(blocks.data_ptr<uint8_t>() + row * blocks.size(1), values.data_ptr<float>() + row * n_in,
                      static_cast<size_t>(n_in));
      }
      const at::Tensor off = (values - w).to(at::kDouble);
      return (at::mm(off, moments.h.to(at::kDouble)) * off).sum().item<double>();
    };
    at::Tensor rounded = at::empty_like(result.blocks);
    const at::Tensor importance = moments.h.diagonal().contiguous();
    for (int64_t row = 0; row < n_rows; ++row) {
      format.encode(w.data_ptr<float>() + row * n_in, importance.data_ptr<float>(),
                    rounded.data_ptr<uint8_t>() + row * rounded.size(1), static_cast<size_t>(n_in));
    }
    const double error = error_of(result.blocks);
    EXPECT_LT(error, 0.6 * error_of(rounded)) << format.name;
    EXPECT_NEAR(result.error, error, 1e-3 * error) << format.name;
    EXPECT_LE(error, error_of(quantize_rows(w, moments, format, 0).blocks)) << format.name;
  }
}

struct Job {
  CalibratedOptions options;
  convert::OutputOptions output;
};

Job tiny_job(const std::string& model) {
  const std::string dir = test::temp_dir();
  std::string text;
  for (int i = 0; i < 4000; ++i) text += static_cast<char>('a' + (i * 7 + i / 5 * 3 + i / 97) % 26);
  test::write_text(dir + "/calib.txt", text);
  Job run;
  run.options.model = model;
  run.options.out = dir + "/out.gguf";
  run.options.calib = dir + "/calib.txt";
  run.options.samples = 12;
  run.options.seq_len = 32;
  run.options.dtype = "f32";
  run.output.mix = quant::find_mix("Q4_0");
  run.output.n_threads = 1;
  return run;
}

TEST(Calibrated, WritesWhatTheMixSaysAndNothingElse) {
  for (const bool jagged : {false, true}) {
    Json config = test::tiny_config();
    if (jagged) {
      config["intermediate_size"] = {96, 64, 96};
      config["head_dim"] = 16;
    }
    const Job run = tiny_job(test::make_tiny_checkpoint(config).directory);
    NoProgress progress;
    ASSERT_EXPECTED(const auto report, quantize_calibrated(run.options, run.output, progress));
    ASSERT_EXPECTED(const auto source, convert::ModelSource::open(run.options.out, progress));
    EXPECT_EQ(report.architecture, jagged ? "deci" : "llama");
    ASSERT_EXPECTED(const auto from, convert::ModelSource::open(run.options.model, progress));
    convert::OutputOptions calibrated = run.output;
    calibrated.calibrated = true;
    ASSERT_EXPECTED(const auto types, convert::choose_output_types(from, calibrated));
    for (size_t i = 0; i < types.size(); ++i) EXPECT_EQ(source.tensors()[i].type, types[i]) << source.tensors()[i].name;
    // Every matrix is near its source: in its place, in its order of rows.
    for (size_t i = 0; i < types.size(); ++i) {
      const uint64_t n = source.tensors()[i].n_cols() * source.tensors()[i].n_rows();
      std::vector<float> before(n), after(n);
      from.tensors()[i].read(0, from.tensors()[i].n_rows(), before.data());
      source.tensors()[i].read(0, source.tensors()[i].n_rows(), after.data());
      double off = 0, all = 0;
      for (uint64_t k = 0; k < n; ++k) {
        off += std::pow(static_cast<double>(before[k] - after[k]), 2);
        all += std::pow(static_cast<double>(before[k]), 2);
      }
      EXPECT_LT(off, 0.03 * all) << source.tensors()[i].name;
    }
    EXPECT_FALSE(fs::exists(run.options.out + ".state"));
  }
}

TEST(Calibrated, AGgufIsAsGoodASourceAsItsCheckpoint) {
  for (const char* kind : {"llama", "jagged", "rope_freqs", "Qwen2ForCausalLM"}) {
    SCOPED_TRACE(kind);
    Json config = test::tiny_config();
    if (kind == std::string("jagged")) config["intermediate_size"] = {96, 64, 96}, config["head_dim"] = 16;
    if (kind == std::string("rope_freqs")) {
      config["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0},
                                {"original_max_position_embeddings", 32}};
    }
    if (kind == std::string("Qwen2ForCausalLM")) config["architectures"] = {kind};
    Job direct = tiny_job(test::make_tiny_checkpoint(config).directory);
    NoProgress progress;
    ASSERT_TRUE(quantize_calibrated(direct.options, direct.output, progress).has_value());
    Job by_file = direct;
    by_file.options.model = test::to_gguf(direct.options.model, "F32");
    by_file.options.out = test::temp_dir() + "/out.gguf";
    const auto report = quantize_calibrated(by_file.options, by_file.output, progress);
    ASSERT_TRUE(report.has_value()) << report.error().message;
    EXPECT_EQ(test::read_bytes(by_file.options.out), test::read_bytes(direct.options.out));
  }
}

TEST(Calibrated, AQuantizedSourceIsRefusedByTensor) {
  Job run = tiny_job(test::to_gguf(test::make_tiny_checkpoint(test::tiny_config()).directory, "Q8_0"));
  NoProgress progress;
  const auto refused = quantize_calibrated(run.options, run.output, progress);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("token_embd.weight is Q8_0"), std::string::npos) << refused.error().message;
}

std::vector<float> logits_of(const std::string& path) { return test::logits_of(test::exact_session(path)); }

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i] - b[i]), 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

TEST(Awq, ScaledModelsComputeTheSame) {
  for (const char* name : {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    SCOPED_TRACE(name);
    Json config = test::tiny_config();
    config["architectures"] = {name};
    if (name == std::string("LlamaForCausalLM")) config["attention_bias"] = config["mlp_bias"] = true;
    auto checkpoint = test::make_tiny_checkpoint(config);
    // Some inputs are much larger than others.
    for (auto& [tensor, values] : checkpoint.weights) {
      const bool gain = tensor.ends_with("layernorm.weight"), rows = tensor.ends_with("up_proj.weight");
      for (size_t i = 0; i < values.size(); ++i) {
        if ((gain && i % 7 == 3) || (rows && i / 64 % 9 == 4)) values[i] *= 12;
      }
    }
    Job run = tiny_job(test::write_checkpoint(checkpoint));
    NoProgress progress;
    const auto written = [&](const char* mix, const char* method) {
      run.output.mix = quant::find_mix(mix);
      run.options.method = method;
      if (mix == std::string("F32")) {
        const auto source = convert::ModelSource::open(run.options.model, progress);
        EXPECT_TRUE(convert::write_gguf(*source, run.options.out, run.output, progress).has_value());
      } else {
        const auto report = quantize_calibrated(run.options, run.output, progress);
        EXPECT_TRUE(report.has_value()) << report.error().message;
      }
      return logits_of(run.options.out);
    };
    const auto exact = written("F32", ""), rounded = written("Q8_0", "rtn"), scaled = written("Q8_0", "awq");
    EXPECT_GT(distance(exact, std::vector<float>(exact.size())), 0.2);
    EXPECT_LT(distance(exact, scaled), 1.5 * distance(exact, rounded));
    ASSERT_EXPECTED(const auto from, convert::ModelSource::open(run.options.model, progress));
    written("Q4_0", "awq");
    ASSERT_EXPECTED(const auto to, convert::ModelSource::open(run.options.out, progress));
    for (const std::string tensor : {"blk.1.attn_norm.weight", "blk.2.ffn_norm.weight"}) {
      std::vector<float> before(64), after(64);
      const auto find = [&](const auto& source) {
        return std::ranges::find(source.tensors(), tensor, &convert::SourceTensor::name);
      };
      find(from)->read(0, 1, before.data());
      find(to)->read(0, 1, after.data());
      EXPECT_GT(std::abs(before[3] / after[3]), 1.3 * std::abs(before[4] / after[4])) << tensor;
    }
  }
}

TEST(Awq, ScalesHelpWhereInputsDiffer) {
  at::Tensor x = correlated(600, 256);
  x.slice(1, 0, 256, 16) *= 30;
  const at::Tensor w = at::randn({64, 256}) * 0.02;
  ASSERT_EXPECTED(const auto moments, second_moments(at::mm(x.t(), x), 0.01));
  const quant::Format& format = quant::format(quant::Type::Q3_K);
  const at::Tensor s = search_scales({{w, &format}}, moments, {});
  EXPECT_GT(s[16].item<float>(), 1.5f * s[17].item<float>());
  const auto error = [&](const at::Tensor& by) {
    const at::Tensor importance = (moments.h.diagonal() / by.square()).contiguous();
    const at::Tensor off = rounded((w * by).contiguous(), importance, format) / by - w;
    return (at::mm(off, moments.h) * off).sum().item<double>();
  };
  EXPECT_LT(error(s), 0.8 * error(at::ones_like(s)));
  // Columns that must share a factor do.
  const at::Tensor shared = at::div(at::arange(256), 4, "floor");
  const at::Tensor in_fours = search_scales({{w, &format}}, moments, shared).view({64, 4});
  EXPECT_EQ((in_fours - in_fours.narrow(1, 0, 1)).abs().max().item<float>(), 0);
}

TEST(Calibrated, ResumesToTheSameBytes) {
  const std::string model = test::make_tiny_checkpoint(test::tiny_config()).directory;
  for (const char* method : {"gptq", "awq"}) {
    Job whole = tiny_job(model);
    whole.options.method = method;
    NoProgress progress;
    ASSERT_TRUE(quantize_calibrated(whole.options, whole.output, progress).has_value());
    int interruptions = 0;
    for (int stop = 1; stop < 200; stop += 5) {
      Job run = whole;
      run.options.out = test::temp_dir() + "/out.gguf";
      StopsAfter stops(stop);
      if (quantize_calibrated(run.options, run.output, stops).has_value()) break;
      ++interruptions;
      EXPECT_FALSE(fs::exists(run.options.out));
      const auto refused = quantize_calibrated(run.options, run.output, progress);
      ASSERT_FALSE(refused.has_value());
      EXPECT_NE(refused.error().message.find("--resume"), std::string::npos) << refused.error().message;
      run.options.resume = true;
      const auto resumed = quantize_calibrated(run.options, run.output, progress);
      ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
      EXPECT_EQ(test::read_bytes(run.options.out), test::read_bytes(whole.options.out)) << "stopped after " << stop;
    }
    EXPECT_GT(interruptions, 3);
  }
}

TEST(Calibrated, WhatCannotBeDoneIsSaidFirst) {
  const std::string model = test::make_tiny_checkpoint(test::tiny_config()).directory;
  NoProgress progress;
  const auto refused = [&](auto change) {
    Job run = tiny_job(model);
    change(run);
    const auto result = quantize_calibrated(run.options, run.output, progress);
    EXPECT_FALSE(result.has_value());
    EXPECT_FALSE(fs::exists(run.options.out));
    EXPECT_FALSE(fs::exists(run.options.out + ".state"));
    return result ? "" : result.error().message;
  };
  EXPECT_NE(refused([](Job& run) { run.options.calib = ""; }).find("--calib"), std::string::npos);
  EXPECT_NE(refused([](Job& run) { run.options.calib = "/nowhere"; }).find("/nowhere"), std::string::npos);
  EXPECT_NE(refused([](Job& run) { run.options.samples = 100000; }).find("are wanted"), std::string::npos);
  EXPECT_NE(refused([](Job& run) { run.options.ram = 1 << 20; }).find("--ram is 1"), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::compress
