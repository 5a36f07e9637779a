// Quantization-aware training: what is trained is what the file holds.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/float16.h"
#include "compress/block_loader.h"
#include "compress/blocks.h"
#include "compress/heal/fake_quantizer.h"
#include "compress/heal/heal.h"
#include "support/resume.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

at::Tensor some_weights(int64_t n_rows, int64_t n_cols) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.03f);
  at::Tensor w = at::empty({n_rows, n_cols}, at::kFloat);
  for (int64_t i = 0; i < w.numel(); ++i) w.data_ptr<float>()[i] = normal(random);
  return w;
}

double error_of(const at::Tensor& rounded, const at::Tensor& w) { return (rounded - w).square().sum(at::kDouble).item<double>(); }

TEST(FakeQuantizer, TernaryBlocksHaveOneScaleAndLoseLess) {
  const quant::Format& format = quant::format(quant::Type::TQ2_0);
  const at::Tensor w = some_weights(8, 512), rounded = FakeQuantizer(format)(w);
  for (const at::Tensor& block : rounded.view({-1, 256}).unbind(0)) {
    const float scale = block.abs().max().item<float>();
    EXPECT_EQ(fp16_to_fp32(fp32_to_fp16(scale)), scale);
    EXPECT_TRUE(at::logical_or(block == 0, block.abs() == scale).all().item<bool>());
  }
  const at::Tensor encoded = decode(encode(w, {}, format).data_ptr<uint8_t>(), format, w.size(0), w.size(1));
  EXPECT_LT(error_of(rounded, w), 0.35 * error_of(encoded, w)) << "the encoder takes the largest weight for the scale";
  // No other scale of the block, and the zeros that go with it, does much better.
  const at::Tensor block = w[0].narrow(0, 0, 256), own = rounded[0].narrow(0, 0, 256);
  for (const double d : {0.8, 0.9, 1.1, 1.2}) {
    const double scale = d * own.abs().max().item<double>();
    EXPECT_GT(error_of(at::where(block.abs() > scale / 2, block.sign() * scale, at::zeros_like(block)), block), 0.99 * error_of(own, block)) << d;
  }
  EXPECT_TRUE(at::equal(FakeQuantizer(format)(at::zeros({1, 256})), at::zeros({1, 256})));
}

TEST(FakeQuantizer, WhatHasSettledIsWhatAFileDecodesTo) {
  const at::Tensor w = some_weights(64, 512);
  for (const quant::Format& format : quant::formats()) {
    if (!is_for_training(format)) continue;
    const at::Tensor settled = FakeQuantizer(format).settled(w);
    const at::Tensor blocks = encode(settled, {}, format);
    EXPECT_TRUE(at::equal(decode(blocks.data_ptr<uint8_t>(), format, w.size(0), w.size(1)), settled)) << format.name;
    EXPECT_TRUE(at::equal(encode(decode(blocks.data_ptr<uint8_t>(), format, w.size(0), w.size(1)), {}, format), blocks)) << format.name;
    EXPECT_LT(error_of(settled, w), 1.1 * error_of(FakeQuantizer(format)(w), w)) << format.name;
  }
}

TEST(FakeQuantizer, AScaledBlockIsRoundedToScaledValues) {
  // What trains the scales of blocks relies on it; twice as large is exact in every format's scales, where those are not too small for FP16.
  const at::Tensor w = 16 * some_weights(64, 512);
  for (const quant::Format& format : quant::formats()) {
    if (!is_for_training(format)) continue;
    const FakeQuantizer rounding(format);
    EXPECT_TRUE(at::equal(rounding(2 * w), 2 * rounding(w))) << format.name;
  }
  EXPECT_EQ(weights_of_a_scale(quant::format(quant::Type::Q4_0)), 32);
  EXPECT_EQ(weights_of_a_scale(quant::format(quant::Type::Q2_K)), 16);
  EXPECT_EQ(weights_of_a_scale(quant::format(quant::Type::TQ2_0)), 256);
}

class Qat : public testing::Test {
 protected:
  void SetUp() override {
    Json config = test::tiny_config();
    config["hidden_size"] = 256, config["intermediate_size"] = 256, config["num_hidden_layers"] = 2, config["num_attention_heads"] = 16;
    model = test::make_tiny_checkpoint(config).directory;
    std::string text;
    for (int i = 0; i < 6000; ++i) text += static_cast<char>('a' + (i * 7 + i / 5 * 3) % 26);
    test::write_text(data, text);
  }

  HealOptions options(quant::Type type) const {
    HealOptions o;
    o.model = o.teacher = model;
    o.out = test::temp_dir() + "/trained";
    o.data = data;
    o.qat = type;
    o.lora.full = all_projections();
    o.adamw.lr = 2e-3;
    o.adamw.warmup = 2;
    o.qat_warmup = 3;
    o.batch = 4;
    o.micro_batch = 2;
    o.cutoff = 32;
    o.max_steps = 16;
    o.validate_every = 4;
    o.result_dtype = o.compute_dtype = "f32";
    o.n_threads = 1;
    return o;
  }

  std::string model;
  const std::string data = test::temp_dir() + "/text.txt";
};

TEST_F(Qat, EndsInItsFormatWithoutFurtherLoss) {
  for (const quant::Type type : {quant::Type::TQ2_0, quant::Type::Q2_K, quant::Type::Q4_0}) {
    const quant::Format& format = quant::format(type);
    SCOPED_TRACE(format.name);
    HealOptions o = options(type);
    if (type == quant::Type::Q4_0) o.adamw.lr = 3e-4;  // the less is rounded, the less is to be changed
    NoProgress progress;
    ASSERT_EXPECTED(const HealReport report, heal(o, progress));
    EXPECT_LT(report.validation_after, 0.8 * report.validation_before) << "of plain rounding";
    EXPECT_LT(report.rounding_kl, 1e-9) << "writing it changes nothing";

    // The file's bytes are the checkpoint's numbers, and encoding those again gives the bytes.
    ASSERT_EXPECTED(const auto source, convert::ModelSource::open(o.out, progress));
    ASSERT_EXPECTED(const auto file, io::GgufFile::open(o.out + "/" + report.gguf));
    size_t n_trained = 0;
    for (const convert::SourceTensor& tensor : source.tensors()) {
      const io::GgufTensor& stored = *file.find(tensor.name);
      const bool in_block = tensor.name.starts_with("blk.") && tensor.shape.size() > 1;
      EXPECT_EQ(stored.type == type, in_block) << tensor.name;
      if (!in_block) continue;
      ++n_trained;
      std::vector<float> exact(tensor.n_rows() * tensor.n_cols()), decoded(exact.size());
      tensor.read(0, tensor.n_rows(), exact.data());
      format.decode(stored.data.data(), decoded.data(), decoded.size());
      EXPECT_EQ(exact, decoded) << tensor.name;
      std::vector<std::byte> again(stored.data.size());
      const size_t row_bytes = quant::row_bytes(format, tensor.n_cols());
      for (uint64_t row = 0; row < tensor.n_rows(); ++row)
        format.encode(decoded.data() + row * tensor.n_cols(), nullptr, again.data() + row * row_bytes, tensor.n_cols());
      EXPECT_TRUE(std::ranges::equal(again, stored.data)) << tensor.name;
    }
    EXPECT_EQ(n_trained, 14u);
  }
}

at::Tensor matrix_of(const convert::ModelSource& source, std::string_view name) {
  const auto tensor = std::ranges::find(source.tensors(), name, &convert::SourceTensor::name);
  at::Tensor w = at::empty({static_cast<int64_t>(tensor->n_rows()), static_cast<int64_t>(tensor->n_cols())}, at::kFloat);
  tensor->read(0, tensor->n_rows(), w.data_ptr<float>());
  return w;
}

/// Logits [n_tokens, n_vocab] of what was trained, with the file's rounded embedding and output matrix.
at::Tensor torch_logits(const std::string& directory, const std::string& gguf, const std::vector<tokenizer::Token>& tokens) {
  NoProgress progress;
  const Compute compute = {at::kCPU, at::kFloat};
  BlockLoader loader(std::move(*convert::open_checkpoint(directory, progress)), compute, false);
  const auto file = convert::ModelSource::open(gguf, progress);
  EXPECT_TRUE(file.has_value());
  const TorchModel model(loader.hparams(), compute);
  at::NoGradGuard no_gradient;
  at::Tensor x = matrix_of(*file, "token_embd.weight").index_select(0, at::tensor(tokens).to(at::kLong)).unsqueeze(0);
  for (size_t layer = 0; layer < loader.hparams().n_layer; ++layer) x = model.block(loader.block(layer), x);
  TensorSet head = loader.head();
  head[models::Role::kOutput] = matrix_of(*file, "output.weight");
  return model.logits(head, x)[0];
}

/// The same of the engine, with the kernels of an instruction set, or with those that it takes itself.
at::Tensor engine_logits(const std::string& gguf, const std::vector<tokenizer::Token>& tokens, const char* isa) {
  if (isa != nullptr) setenv("SHOEHORN_ISA", isa, 1);
  engine::Session session = test::exact_session(gguf);
  if (isa != nullptr) unsetenv("SHOEHORN_ISA");
  return at::tensor(test::logits_of(std::move(session), tokens)).view({static_cast<int64_t>(tokens.size()), -1});
}

TEST_F(Qat, TheEngineComputesWhatWasTrained) {
  for (const quant::Type type : {quant::Type::TQ2_0, quant::Type::Q2_K, quant::Type::Q4_0}) {
    SCOPED_TRACE(quant::format(type).name);
    HealOptions o = options(type);
    o.max_steps = 4;
    NoProgress progress;
    ASSERT_EXPECTED(const HealReport report, heal(o, progress));
    const std::string gguf = o.out + "/" + report.gguf;
    const auto tokens = test::some_tokens(40);
    const at::Tensor trained = torch_logits(o.out, gguf, tokens);
    EXPECT_GT(trained.abs().max().item<double>(), 0.5);
    EXPECT_LT((engine_logits(gguf, tokens, "scalar") - trained).abs().max().item<double>(), 1e-4);
    // The fast kernels round what a product reads to 8 bits, which a model of random weights makes much of.
    EXPECT_LT((engine_logits(gguf, tokens, nullptr) - trained).norm().item<double>(), 0.1 * trained.norm().item<double>());
  }
}

TEST_F(Qat, GoesOnAfterAKill) {
  HealOptions o = options(quant::Type::TQ2_0);
  NoProgress progress;
  o.save_seconds = 0;
  ASSERT_EXPECTED(const HealReport whole, heal(o, progress));
  const std::string expected = test::read_text(o.out + "/" + whole.gguf);

  test::StopsAfter stops(70);
  o.out = test::temp_dir() + "/trained";
  EXPECT_FALSE(heal(o, stops).has_value());
  o.resume = true;
  ASSERT_EXPECTED(const HealReport resumed, heal(o, progress));
  EXPECT_EQ(resumed.losses, whole.losses);
  EXPECT_TRUE(test::read_text(o.out + "/" + resumed.gguf) == expected);
}

TEST_F(Qat, BeginsWithTheWeightsOfAFile) {
  HealOptions o = options(quant::Type::Q4_0);
  o.adamw.lr = 3e-4;
  NoProgress progress;
  ASSERT_EXPECTED(const HealReport first, heal(o, progress));
  const std::string file = o.out + "/" + first.gguf;
  // Without a step's effect, what the file holds is written again, rows of q and k in their places too.
  o.qat_from = file;
  o.out = test::temp_dir() + "/again";
  o.adamw.lr = 0;
  o.max_steps = 1;
  ASSERT_EXPECTED(const HealReport again, heal(o, progress));
  EXPECT_NEAR(again.validation_before, first.validation_after, 1e-6 * first.validation_after);
  EXPECT_EQ(again.best_step, 0);
  ASSERT_EXPECTED(const auto expected, io::GgufFile::open(file));
  ASSERT_EXPECTED(const auto written, io::GgufFile::open(o.out + "/" + again.gguf));
  for (const io::GgufTensor& tensor : expected.tensors()) {
    EXPECT_TRUE(std::ranges::equal(written.find(tensor.name)->data, tensor.data)) << tensor.name;
  }
  // With steps, it gets better than it was.
  o.out = test::temp_dir() + "/better";
  o.adamw.lr = 3e-4;
  o.max_steps = 16;
  ASSERT_EXPECTED(const HealReport better, heal(o, progress));
  EXPECT_LT(better.validation_after, 0.95 * first.validation_after);
}

TEST_F(Qat, WhatCannotBeIsRefused) {
  const auto refused = [](const HealOptions& o) {
    NoProgress progress;
    const auto report = heal(o, progress);
    return report ? std::string() : report.error().message;
  };
  HealOptions o = options(quant::Type::Q4_0);
  o.result_dtype = "bf16";
  EXPECT_NE(refused(o).find("--qat writes its checkpoint as f32"), std::string::npos);
  EXPECT_NE(refused(options(quant::Type::Q6_K)).find("--qat Q6_K"), std::string::npos);
  EXPECT_NE(refused(options(quant::Type::F16)).find("--qat F16"), std::string::npos);
  o = options(quant::Type::Q4_0);
  o.qat_from = test::tiny_gguf();
  EXPECT_NE(refused(o).find("blk.0.attn_q.weight is [64, 64], the model's model.layers.0.self_attn.q_proj.weight [256, 256]"), std::string::npos) << refused(o);
  o.qat.reset();
  EXPECT_NE(refused(o).find("--qat-from goes with --qat"), std::string::npos);
  model = test::make_tiny_checkpoint(test::tiny_config()).directory;
  EXPECT_NE(refused(options(quant::Type::TQ2_0)).find("model.layers.0.self_attn.q_proj.weight has rows of 64, TQ2_0 needs a multiple of 256"), std::string::npos) << refused(options(quant::Type::TQ2_0));
}

}  // namespace
}  // namespace shoehorn::compress
