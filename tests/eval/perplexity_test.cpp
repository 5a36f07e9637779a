#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include <filesystem>

#include "base/json.h"
#include "base/memory.h"
#include "eval/bundled_text.h"
#include "support/notes.h"
#include "support/running_model.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::eval {
namespace {

engine::Session open_session(const std::string& path) {
  auto model = engine::Model::open(path);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  auto session = engine::Session::create(*model, {.n_ctx = 512});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(*session);
}

/// The protocol written out a second time, one token after another: what perplexity() must equal.
TEST(Perplexity, CountsThePredictionsOfTheSecondHalfOfEachChunk) {
  SHOEHORN_SHARED(path, "reference/fable-10m-Q8_0.gguf");
  SHOEHORN_SHARED(text_path, "data/text/books.test.txt");
  const std::string text = test::read_text(text_path).substr(0, 1500);
  engine::Session session = open_session(path);
  NoProgress progress;
  constexpr size_t kCtx = 64;
  ASSERT_EXPECTED(const auto result, perplexity(session, nullptr, text, {.n_ctx = kCtx, .max_chunks = 3}, progress));
  EXPECT_EQ(result.chunks, 3u);
  EXPECT_EQ(result.tokens, 3u * 31u);

  const auto& tokenizer = session.model().tokenizer();
  const auto tokens = tokenizer.encode(text, {.parse_special = false});
  double nll = 0;
  for (size_t chunk = 0; chunk < 3; ++chunk) {
    session.truncate(0);
    for (size_t i = 0; i + 1 < kCtx; ++i) {
      const auto token = i == 0 ? *tokenizer.vocab().bos : tokens[chunk * kCtx + i];
      ASSERT_EXPECTED(const auto logits, session.eval({&token, 1}));
      if (i < kCtx / 2) continue;
      double total = 0;
      for (const float logit : logits) total += std::exp(static_cast<double>(logit));
      nll += std::log(total) - static_cast<double>(logits[static_cast<size_t>(tokens[chunk * kCtx + i + 1])]);
    }
  }
  // Token by token and in batches, activations are rounded to int8 in groups of different sizes.
  EXPECT_NEAR(std::log(result.ppl), nll / 93, 2e-3);
}

TEST(Perplexity, OfAModelAgainstItselfHasNoDivergence) {
  SHOEHORN_SHARED(path, "reference/fable-10m-Q4_K_M.gguf");
  SHOEHORN_SHARED(text_path, "data/text/books.test.txt");
  engine::Session session = open_session(path), base = open_session(path);
  NoProgress progress;
  ASSERT_EXPECTED(const auto result, perplexity(session, &base, test::read_text(text_path).substr(0, 8000), {}, progress));
  ASSERT_TRUE(result.has_base);
  EXPECT_EQ(result.kld_mean, 0);
  EXPECT_EQ(result.top1, 1);
  EXPECT_EQ(result.base_ppl, result.ppl);
}

/// A model whose layers are most of it, and one quantized from it.
struct Pair {
  std::string exact, rounded;
};
Pair make_pair_of_files() {
  Json config = test::tiny_config();
  config["num_hidden_layers"] = 24;
  config["hidden_size"] = 256;
  config["intermediate_size"] = 1024;
  const std::string directory = test::make_tiny_checkpoint(config).directory;
  return {test::to_gguf(directory, "F32"), test::to_gguf(directory, "Q4_0")};
}

TEST(Perplexity, OfModelsLargerThanTheMemoryIsTheSameALayerAtATime) {
  const Pair files = make_pair_of_files();
  const PerplexityOptions options = {.n_ctx = 64, .max_chunks = 5};
  NoProgress progress;
  auto session = test::open_session(files.rounded, {.n_ctx = 64}), base = test::open_session(files.exact, {.n_ctx = 64});
  ASSERT_EXPECTED(const auto whole, perplexity(session, &base, bundled_text(), options, progress));

  PerplexityOptions tight = options;
  const uint64_t file = std::filesystem::file_size(files.exact);
  ASSERT_GT(file, uint64_t{60} << 20);
  tight.ram = peak_resident_bytes() + file / 2;
  test::Notes notes;
  ASSERT_EXPECTED(const auto streamed, perplexity(session, &base, bundled_text(), tight, notes));
  EXPECT_TRUE(notes.contain("a layer at a time")) << "the files were thought to fit";
  EXPECT_EQ(streamed.ppl, whole.ppl);
  EXPECT_EQ(streamed.kld_mean, whole.kld_mean);
  EXPECT_EQ(streamed.kld_p99, whole.kld_p99);
  EXPECT_EQ(streamed.chunk_nll, whole.chunk_nll);

  tight.ram = peak_resident_bytes() + 1000;
  const auto none = perplexity(session, &base, bundled_text(), tight, progress);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(none.error().message.find("a layer of"), std::string::npos) << none.error().message;
}

TEST(Perplexity, TakesTheBasesActivationsFromWhereTheyWereKept) {
  const std::string directory = test::make_tiny_checkpoint(test::tiny_config()).directory;
  const std::string exact = test::to_gguf(directory, "F32"), rounded = test::to_gguf(directory, "Q4_0");
  auto session = test::open_session(rounded, {.n_ctx = 64}), base = test::open_session(exact, {.n_ctx = 64});
  NoProgress progress;
  PerplexityOptions options = {.n_ctx = 64, .max_chunks = 3};
  ASSERT_EXPECTED(const auto plain, perplexity(session, &base, bundled_text(), options, progress));
  options.states = directory + "/states";
  for (const char* when : {"not there", "there"}) {
    ASSERT_EXPECTED(const auto kept, perplexity(session, &base, bundled_text(), options, progress));
    EXPECT_EQ(kept.kld_mean, plain.kld_mean) << when;
    EXPECT_EQ(kept.base_ppl, plain.base_ppl) << when;
  }
  const std::string written = test::read_text(options.states);
  EXPECT_GT(written.size(), 3u * 31 * base.model().hparams().n_embd * 4);

  // The base's own measurement keeps the same.
  PerplexityOptions own = options;
  own.states = directory + "/own";
  ASSERT_TRUE(perplexity(base, nullptr, bundled_text(), own, progress).has_value());
  EXPECT_EQ(test::read_text(own.states), written);

  // What is in the file is what is used: other bytes give another divergence ...
  std::string other = written;
  other.replace(other.size() - 400, 400, 400, '\0');
  test::write_text(options.states, other);
  ASSERT_EXPECTED(const auto used, perplexity(session, &base, bundled_text(), options, progress));
  EXPECT_NE(used.kld_mean, plain.kld_mean);
  // ... but not when they are of other chunks, of another model, or broken: then they are made again.
  options.max_chunks = 2;
  auto half = options;
  half.states.clear();
  ASSERT_EXPECTED(const auto fewer, perplexity(session, &base, bundled_text(), half, progress));
  ASSERT_EXPECTED(const auto remade, perplexity(session, &base, bundled_text(), options, progress));
  EXPECT_EQ(remade.kld_mean, fewer.kld_mean);
  auto stranger = test::open_session(rounded, {.n_ctx = 64});
  ASSERT_EXPECTED(const auto itself, perplexity(session, &stranger, bundled_text(), options, progress));
  EXPECT_EQ(itself.kld_mean, 0);
  test::write_text(options.states, "no file of tensors");
  ASSERT_EXPECTED(const auto again, perplexity(session, &base, bundled_text(), options, progress));
  EXPECT_EQ(again.kld_mean, fewer.kld_mean);
}

TEST(Perplexity, RefusesTooShortATextWithTheNumbers) {
  SHOEHORN_SHARED(path, "reference/fable-10m-Q4_K_M.gguf");
  engine::Session session = open_session(path);
  NoProgress progress;
  const auto result = perplexity(session, nullptr, "Too short.", {}, progress);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message.find("1024"), std::string::npos) << result.error().message;
}

/// Every file of llama.cpp's that we decode, on the text and the protocol of its own figure.
class ReferenceFigure : public testing::TestWithParam<const char*> {};

TEST_P(ReferenceFigure, IsReproduced) {
  SHOEHORN_SHARED(figures_path, "reference/figures.json");
  SHOEHORN_SHARED(text_path, "data/text/books.test.txt");
  ASSERT_EXPECTED(const Json figures, read_json(figures_path));
  const Json& figure = figures["files"][GetParam()];
  SHOEHORN_SHARED(path, "reference/" + figure["file"].get<std::string>());
  SHOEHORN_SHARED(base_path, "reference/fable-10m-F16.gguf");
  engine::Session session = open_session(path), base = open_session(base_path);
  NoProgress progress;
  ASSERT_EXPECTED(const auto result, perplexity(session, &base, test::read_text(text_path), {.max_chunks = 60}, progress));
  const double expected = figure["ppl"].get<double>();
  // Theirs rounds activations to 8 bits, which the ternary file, never trained for it, feels most.
  const double tolerance = std::string(GetParam()) == "TQ2_0" ? 0.01 : 0.002;
  EXPECT_NEAR(result.ppl / expected, 1, tolerance) << result.ppl << " against " << expected;
  EXPECT_NEAR(result.ppl_err, figure["ppl_err"].get<double>(), 0.05 * result.ppl_err);
  // Theirs keeps the base's logits in 16 bits.
  const double kld = figure.value("kld", 0.0);
  EXPECT_LT(result.kld_mean, kld + std::max(5e-4, 10 * tolerance * kld));
  // Kernels that decode weights to floats leave out what rounding activations costs: with AVX2 alone, 6e-4.
  EXPECT_GT(result.kld_mean, kld - std::max(1e-3, 10 * tolerance * kld));
  EXPECT_NEAR(result.top1, figure.value("top1", 1.0), 0.01);
  std::printf("%-16s ppl %9.4f, llama.cpp %9.4f (%+.3f %%), KL %.6f, %.6f\n", GetParam(), result.ppl, expected,
              (result.ppl / expected - 1) * 100, result.kld_mean, kld);
}

INSTANTIATE_TEST_SUITE_P(SlowFiles, ReferenceFigure,
                         testing::Values("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_M-imatrix", "Q4_0", "IQ4_XS-imatrix",
                                         "Q3_K_M", "Q3_K_M-imatrix", "IQ3_M-imatrix", "IQ3_S-imatrix", "IQ3_XXS-imatrix",
                                         "Q2_K", "Q2_K-imatrix", "IQ2_M-imatrix", "IQ2_XXS-imatrix", "TQ2_0"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace shoehorn::eval
