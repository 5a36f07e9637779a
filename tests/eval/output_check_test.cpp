#include "eval/output_check.h"

#include <gtest/gtest.h>

#include "convert/checkpoint_view.h"
#include "engine/answer_text.h"
#include "eval/bundled_text.h"
#include "eval/perplexity.h"
#include "support/running_model.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::eval {
namespace {

using engine::Model;
using test::open_model;
using tokenizer::Token;

TEST(BundledText, IsWholeLinesOfEnglish) {
  const std::string_view text = bundled_text();
  EXPECT_GT(text.size(), 10'000u);
  EXPECT_LT(text.size(), 16'000u);
  EXPECT_NE(text.find(" the "), std::string_view::npos);
  const std::string whole = test::read_text(test::source_dir() + "/models/fable-10m/eval.txt");
  ASSERT_TRUE(whole.starts_with(text));
  EXPECT_EQ(whole[text.size()], '\n');
}

TEST(OutputCheck, MeasuresWhatPerplexityMeasures) {
  const std::string directory = test::make_tiny_checkpoint(test::tiny_config()).directory;
  const std::string exact = test::to_gguf(directory, "F32"), rounded = test::to_gguf(directory, "Q4_0");
  NoProgress progress;
  const CheckOptions options{.text = bundled_text(), .n_ctx = 64, .max_chunks = 3, .n_threads = 2};
  ASSERT_EXPECTED(const auto check, check_output(open_model(rounded), open_model(exact), options, progress));
  auto session = test::open_session(rounded, {.n_ctx = 64}), base = test::open_session(exact, {.n_ctx = 64});
  ASSERT_EXPECTED(const auto expected, perplexity(session, &base, bundled_text(), {.n_ctx = 64, .max_chunks = 3}, progress));
  EXPECT_EQ(check.predictions.tokens, expected.tokens);
  EXPECT_NEAR(check.predictions.ppl, expected.ppl, 1e-3 * expected.ppl);
  EXPECT_NEAR(check.predictions.base_ppl, expected.base_ppl, 1e-3 * expected.base_ppl);
  EXPECT_GT(expected.kld_mean, 1e-4);
  EXPECT_NEAR(check.predictions.kld_mean, expected.kld_mean, 0.02 * expected.kld_mean);
  EXPECT_NEAR(check.predictions.top1, expected.top1, 0.03);
  EXPECT_FALSE(check.sentence.empty());

  // A checkpoint where it lies is a source as good as its file.
  ASSERT_EXPECTED(auto view, convert::view_checkpoint(directory, progress));
  ASSERT_EXPECTED(const auto in_place, Model::create(std::move(view), models::RopeType::kNeox));
  ASSERT_EXPECTED(const auto again, check_output(open_model(rounded), in_place, options, progress));
  EXPECT_NEAR(again.predictions.kld_mean, check.predictions.kld_mean, 0.01 * check.predictions.kld_mean);
}

TEST(OutputCheck, SaysWhoseLogitsAreNotFinite) {
  auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string good = test::to_gguf(checkpoint.directory, "F32");
  for (float& weight : checkpoint.weights.at("lm_head.weight")) weight = 3e38f;
  const std::string bad = test::to_gguf(test::write_checkpoint(checkpoint), "F32");
  NoProgress progress;
  const CheckOptions options{.text = bundled_text(), .n_ctx = 64};
  const auto ours = check_output(open_model(bad), open_model(good), options, progress);
  ASSERT_FALSE(ours.has_value());
  EXPECT_EQ(ours.error().code, ErrorCode::kInvalid);
  EXPECT_NE(ours.error().message.find("the result are not finite"), std::string::npos) << ours.error().message;
  const auto theirs = check_output(open_model(good), open_model(bad), options, progress);
  ASSERT_FALSE(theirs.has_value());
  EXPECT_NE(theirs.error().message.find("the source are not finite"), std::string::npos) << theirs.error().message;
}

TEST(OutputCheck, WhatCannotBeMeasuredIsToldApartFromWhatIsBroken) {
  const std::string path = test::to_gguf(test::make_tiny_checkpoint(test::tiny_config()).directory, "F32");
  Json larger = test::tiny_config();
  larger["vocab_size"] = 320;
  const std::string other = test::to_gguf(test::make_tiny_checkpoint(larger).directory, "F32");
  NoProgress progress;
  const auto short_text = check_output(open_model(path), open_model(path), {.text = "Too short."}, progress);
  ASSERT_FALSE(short_text.has_value());
  EXPECT_EQ(short_text.error().code, ErrorCode::kUnsupported);
  const auto strangers = check_output(open_model(path), open_model(other), {.text = bundled_text()}, progress);
  ASSERT_FALSE(strangers.has_value());
  EXPECT_EQ(strangers.error().code, ErrorCode::kUnsupported);
}

TEST(OutputCheck, KnowsRepetition) {
  const std::vector<Token> varied = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  EXPECT_FALSE(repeats_itself(varied));
  EXPECT_FALSE(repeats_itself(std::vector<Token>(11, 7))) << "too few to tell";
  EXPECT_TRUE(repeats_itself(std::vector<Token>(12, 7)));
  std::vector<Token> tail = varied;
  for (int i = 0; i < 4; ++i) tail.insert(tail.end(), {1, 2, 3, 4});
  EXPECT_TRUE(repeats_itself(tail));
  tail.push_back(9);
  EXPECT_FALSE(repeats_itself(tail)) << "it came to an end";
}

/// A model without sense writes bytes that are no text: what a check tells is text all the same.
TEST(OutputCheck, TheSentenceIsValidUtf8) {
  Json config = test::tiny_config();
  size_t n_other = 0;
  for (uint32_t seed = 1; seed <= 8; ++seed) {
    const std::string path = test::to_gguf(test::make_tiny_checkpoint(config, seed).directory, "F32");
    NoProgress progress;
    const auto model = open_model(path);
    ASSERT_EXPECTED(const auto check, check_output(model, model, {.text = bundled_text(), .n_ctx = 64, .max_chunks = 1, .n_threads = 2}, progress));
    EXPECT_EQ(engine::valid_utf8(check.sentence), check.sentence);
    n_other += check.sentence.find("\xEF\xBF\xBD") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(n_other, 0u) << "none of them wrote bytes that are no text";
}

}  // namespace
}  // namespace shoehorn::eval
