#include "engine/adapter.h"

#include <random>

#include "engine/scheduler.h"
#include "io/gguf.h"
#include "support/running_model.h"
#include "support/support.h"

namespace shoehorn::engine {
namespace {

using test::open_model;
using tokenizer::Token;

constexpr size_t kRank = 3;
const std::vector<Token> kTokens = {1, 5, 9, 200, 31, 7, 64, 3, 11, 12, 13, 14, 15, 90, 91, 92};

struct Matrix {
  std::string name;
  std::vector<float> a, b;  // [rank, n_cols], [n_rows, rank]
};

std::vector<float> random_values(size_t n, std::mt19937& random) {
  std::vector<float> out;
  for (size_t i = 0; i < n; ++i) out.push_back(static_cast<float>(random() % 2001) / 20000.0f - 0.05f);
  return out;
}

/// An adapter for every matrix of the layers.
std::vector<Matrix> make_matrices(const Model& model, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Matrix> out;
  for (const io::GgufTensor& tensor : model.file().tensors()) {
    if (!tensor.name.starts_with("blk.") || tensor.shape.size() != 2) continue;
    auto a = random_values(kRank * tensor.n_cols(), random), b = random_values(tensor.n_rows() * kRank, random);
    out.push_back({tensor.name, std::move(a), std::move(b)});
  }
  return out;
}

std::string write_adapter(const Model& model, const std::vector<Matrix>& matrices, float alpha,
                          const std::string& architecture = "llama", const std::string& kind = "lora") {
  io::GgufWriter writer;
  writer.set("general.type", std::string("adapter"));
  writer.set("general.architecture", architecture);
  writer.set("adapter.type", kind);
  writer.set("adapter.lora.alpha", alpha);
  for (const Matrix& matrix : matrices) {
    const io::GgufTensor* tensor = model.file().find(matrix.name);
    const uint64_t n_cols = tensor == nullptr ? 8 : tensor->n_cols(), n_rows = tensor == nullptr ? 8 : tensor->n_rows();
    EXPECT_TRUE(writer.add_tensor(matrix.name + ".lora_a", quant::Type::F32, {n_cols, matrix.a.size() / n_cols}));
    if (matrix.b.empty()) continue;
    EXPECT_TRUE(writer.add_tensor(matrix.name + ".lora_b", quant::Type::F32, {matrix.b.size() / n_rows, n_rows}));
  }
  const std::string path = test::temp_dir() + "/adapter.gguf";
  EXPECT_TRUE(writer.begin(path));
  for (const Matrix& matrix : matrices) {
    for (const auto* part : {&matrix.a, &matrix.b}) {
      const Status appended = part->empty() ? Status() : writer.append(std::as_bytes(std::span(*part)));
      EXPECT_TRUE(appended);
    }
  }
  EXPECT_TRUE(writer.commit());
  return path;
}

/// The model with the adapter's products added to its weights.
std::string write_merged(const Model& model, const std::vector<Matrix>& matrices, float scale) {
  io::GgufWriter writer;
  writer.metadata() = model.file().metadata();
  for (const io::GgufTensor& tensor : model.file().tensors())
    EXPECT_TRUE(writer.add_tensor(tensor.name, tensor.type, tensor.shape));
  const std::string path = test::temp_dir() + "/merged.gguf";
  EXPECT_TRUE(writer.begin(path));
  for (const io::GgufTensor& tensor : model.file().tensors()) {
    std::vector<float> values(tensor.n_elements());
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    for (const Matrix& matrix : matrices) {
      if (matrix.name != tensor.name) continue;
      for (size_t row = 0; row < tensor.n_rows(); ++row) {
        for (size_t col = 0; col < tensor.n_cols(); ++col) {
          for (size_t r = 0; r < kRank; ++r)
            values[row * tensor.n_cols() + col] +=
                scale * matrix.b[row * kRank + r] * matrix.a[r * tensor.n_cols() + col];
        }
      }
    }
    EXPECT_TRUE(writer.append(std::as_bytes(std::span(values))));
  }
  EXPECT_TRUE(writer.commit());
  return path;
}

/// Logits of every token, read in one portion or one by one.
std::vector<float> logits_of(std::shared_ptr<const Model> model, const Adapters& adapters, bool one_by_one) {
  auto session = Session::create(
      std::move(model),
      {.n_ctx = 64, .n_batch = 64, .n_threads = 2, .key_type = quant::Type::F32, .value_type = quant::Type::F32});
  EXPECT_TRUE(session.has_value());
  session->adapt(adapters);
  std::vector<float> out;
  for (size_t i = 0; i < (one_by_one ? kTokens.size() : 1); ++i) {
    const auto logits =
        session->eval(one_by_one ? std::span(kTokens).subspan(i, 1) : std::span(kTokens), kTokens.size());
    out.insert(out.end(), logits->begin(), logits->end());
  }
  return out;
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float out = 0;
  for (size_t i = 0; i < a.size(); ++i) out = std::max(out, std::abs(a[i] - b[i]));
  return out;
}

std::string plain_model() { return test::to_gguf(test::make_tiny_checkpoint(test::tiny_config(), 1).directory, "F32"); }

TEST(Adapter, IsWhatMergedWeightsAre) {
  const auto model = open_model(plain_model());
  const auto matrices = make_matrices(*model, 1);
  ASSERT_GT(matrices.size(), 6u);
  ASSERT_EXPECTED(const auto adapter, Adapter::open(write_adapter(*model, matrices, 6), model));
  for (const float scale : {1.0f, -0.5f}) {
    const auto merged = open_model(write_merged(*model, matrices, scale * 6 / kRank));
    for (const bool one_by_one : {false, true}) {
      const auto expected = logits_of(merged, {}, one_by_one), got = logits_of(model, {{adapter, scale}}, one_by_one);
      EXPECT_LT(largest_difference(got, expected), 2e-4f) << scale << one_by_one;
      EXPECT_GT(largest_difference(expected, logits_of(model, {}, one_by_one)), 0.05f) << "the adapter does nothing";
    }
  }
}

TEST(Adapter, SeveralAddUp) {
  const auto model = open_model(plain_model());
  const auto first = make_matrices(*model, 1), second = make_matrices(*model, 2);
  ASSERT_EXPECTED(const auto a, Adapter::open(write_adapter(*model, first, 3), model));
  ASSERT_EXPECTED(const auto b, Adapter::open(write_adapter(*model, second, 3), model));
  const auto once = open_model(write_merged(*model, first, 1)), twice = open_model(write_merged(*once, second, 0.5f));
  EXPECT_LT(largest_difference(logits_of(model, {{a, 1}, {b, 0.5f}}, false), logits_of(twice, {}, false)), 2e-4f);
}

// Sequences with and without adapters side by side are each as alone.
TEST(Adapter, OfOneSequenceIsNotOfAnother) {
  const auto model = open_model(test::tiny_gguf());
  ASSERT_EXPECTED(const auto adapter, Adapter::open(write_adapter(*model, make_matrices(*model, 3), 6), model));
  const std::vector<Adapters> each = {{}, {{adapter, 20}}, {{adapter, -20}}, {}, {{adapter, 20}}};
  ASSERT_EXPECTED(Batch batch, Batch::create(model, {.n_ctx = 64, .n_batch = 8, .n_threads = 2}, 3));
  const auto answers = [&](size_t first, size_t last) {
    Scheduler scheduler(batch);
    std::map<uint64_t, std::vector<Token>> out;
    for (size_t i = first; i < last; ++i) {
      Request request = {.prompt = kTokens, .sampler = {.temperature = 0}, .max_tokens = 12};
      request.adapters = each[i];
      scheduler.submit(std::move(request));
    }
    while (!scheduler.idle()) {
      auto done = scheduler.step();
      EXPECT_TRUE(done.has_value());
      for (Answer& answer : *done) out[answer.id + first] = answer.result->ids;
    }
    return out;
  };
  const auto together = answers(0, each.size());
  for (size_t i = 0; i < each.size(); ++i) EXPECT_EQ(together.at(i), answers(i, i + 1).at(i)) << i;
  EXPECT_EQ(together.at(0), together.at(3));
  EXPECT_EQ(together.at(1), together.at(4));
  EXPECT_NE(together.at(0), together.at(1));
}

TEST(Adapter, WhatDoesNotFitIsRefusedByName) {
  const auto model = open_model(plain_model());
  const auto whole = make_matrices(*model, 1);
  const auto message = [&](const std::string& path) {
    const auto adapter = Adapter::open(path, model);
    return adapter ? "" : adapter.error().message;
  };
  const auto expect = [&](const std::string& path, const char* part) {
    EXPECT_NE(message(path).find(part), std::string::npos) << message(path);
  };
  expect(model->file().path(), "no adapter");
  expect(write_adapter(*model, whole, 1, "qwen2"), "qwen2");
  expect(write_adapter(*model, whole, 1, "llama", "dora"), "dora");
  expect(write_adapter(*model, whole, std::numeric_limits<float>::infinity()), "alpha");
  expect(write_adapter(*model, {}, 1), "without tensors");
  auto changed = whole;
  changed[0].name = "blk.99.attn_q.weight";
  expect(write_adapter(*model, changed, 1), "blk.99");
  changed = whole;
  changed[1].b.clear();
  expect(write_adapter(*model, changed, 1), changed[1].name.c_str());
  changed = whole;
  changed[2].a.resize(changed[2].a.size() / kRank * 2);
  expect(write_adapter(*model, changed, 1), "do not fit");
  changed = whole;
  changed[2].a[5] = std::numeric_limits<float>::quiet_NaN();
  expect(write_adapter(*model, changed, 1), "not finite");
}

}  // namespace
}  // namespace shoehorn::engine
