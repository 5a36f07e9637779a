#include "eval/multiple_choice.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/prompt_tokens.h"
#include "support/running_model.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

/// log P of ids[from ...] in double, from rows of logits after each token.
template <class Rows>
double log_likelihood(const Rows& logits, const std::vector<Token>& ids, size_t from) {
  double sum = 0;
  for (size_t i = from; i < ids.size(); ++i) {
    double total = 0;
    for (const auto logit : logits[i - 1]) total += std::exp(static_cast<double>(logit));
    sum += static_cast<double>(logits[i - 1][static_cast<size_t>(ids[i])]) - std::log(total);
  }
  return sum;
}

TEST(MultipleChoice, AgreesWithThePlainPassOverEachChoiceAlone) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const auto model = test::open_model(test::to_gguf(checkpoint.directory));
  ASSERT_EXPECTED(
      auto session,
      engine::Session::create(
          model,
          {.n_ctx = 128, .n_batch = 16, .n_threads = 2, .key_type = quant::Type::F32, .value_type = quant::Type::F32}));
  ChoiceScorer scorer(session);
  const std::string contexts[] = {"Question: what is round?\nAnswer:", "Question: what is round?\nAnswer: a wheel. And",
                                  "It"};
  const std::vector<std::string> choices = {" a ball", " the cube, of course", " x"};
  for (const std::string& context : contexts) {
    ASSERT_EXPECTED(const auto scores, scorer.score(context, choices));
    for (size_t i = 0; i < choices.size(); ++i) {
      const auto before = model->tokenizer().encode(context), all = model->tokenizer().encode(context + choices[i]);
      const auto logits = test::plain_forward(checkpoint, {all.begin(), all.end()});
      EXPECT_NEAR(scores.log_likelihood[i], log_likelihood(logits, all, before.size()), 2e-4) << context << choices[i];
      EXPECT_EQ(scores.n_tokens[i], all.size() - before.size());
    }
  }
}

/// Rows of a pass over the whole text from nothing.
std::vector<std::vector<float>> rows_from_scratch(const std::shared_ptr<const engine::Model>& model,
                                                  const std::vector<Token>& ids, size_t n_ctx) {
  auto session = engine::Session::create(model, {.n_ctx = n_ctx, .n_threads = 1});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  const auto logits = session->eval(ids, ids.size());
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  std::vector<std::vector<float>> rows;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto row = logits->subspan(i * session->n_vocab(), session->n_vocab());
    rows.emplace_back(row.begin(), row.end());
  }
  return rows;
}

struct Benchmark {
  const char* name;
  const char* path;
  ChoiceReader reader;
  std::span<const Metric> metrics;
};

class MultipleChoiceTask : public testing::TestWithParam<Benchmark> {};

/// The whole task against a second implementation: every choice from nothing, its tokens cut as the README of the
/// harness says, softmax in double, and the figures counted anew.
TEST_P(MultipleChoiceTask, AgreesItemByItemWithAPassFromScratchForEachChoice) {
  SHOEHORN_SHARED(model_path, "reference/fable-10m-F16.gguf");
  SHOEHORN_SHARED(path, std::string("data/eval/") + GetParam().path);
  const auto model = test::open_model(model_path);
  constexpr size_t kCtx = 512;
  const Subject subject = {.model = model, .session = {.n_ctx = kCtx, .n_threads = 2}};
  TaskOptions options;
  options.path = path;
  options.limit = 12;
  NoItemLog log;
  NoProgress progress;
  ASSERT_EXPECTED(const auto result, run_choice_task({options, subject, nullptr, log, progress}, GetParam().name,
                                                     GetParam().reader, GetParam().metrics));
  ASSERT_EXPECTED(auto items, GetParam().reader({.path = path, .labels_path = {}}));
  ASSERT_EQ(result.items.size(), 12u);
  const auto& tokenizer = model->tokenizer();
  for (size_t i = 0; i < result.items.size(); ++i) {
    const ChoiceItem& item = items[i];
    const Json& record = result.items[i].record;
    const std::string prompt = item.description + item.context;
    EXPECT_EQ(record["prompt"], prompt);
    std::vector<double> expected, per_character;
    for (size_t c = 0; c < item.choices.size(); ++c) {
      const auto before = tokenizer.encode(prompt, {.parse_special = false});
      auto all = tokenizer.encode(prompt + " " + item.choices[c], {.parse_special = false});
      ASSERT_TRUE(std::equal(before.begin(), before.end(), all.begin())) << "a token spans the seam of " << item.id;
      const size_t n_scored = all.size() - before.size();
      while (all.size() > kCtx + 1) all.erase(all.begin() + 1);
      expected.push_back(log_likelihood(rows_from_scratch(model, all, kCtx + 1), all, all.size() - n_scored));
      per_character.push_back(expected.back() / static_cast<double>(item.choices[c].size()));  // these items are ASCII
      EXPECT_NEAR(record["log_likelihood"][c].get<double>(), expected[c], 1e-3 + 1e-4 * std::abs(expected[c]))
          << item.id << " " << c;
    }
    const auto best = [](const std::vector<double>& x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    const Json& sums = record["sums"];
    if (sums.contains("acc")) {
      EXPECT_EQ(sums["acc"][0].get<double>() == 1, best(expected) == static_cast<ptrdiff_t>(item.answer)) << item.id;
    }
    if (sums.contains("acc_norm")) {
      EXPECT_EQ(sums["acc_norm"][0].get<double>() == 1, best(per_character) == static_cast<ptrdiff_t>(item.answer))
          << item.id;
    }
    if (sums.contains("mc1")) {
      double right = 0, total = 0, wrong = -1e300;
      for (size_t c = 0; c < expected.size(); ++c) {
        total += std::exp(expected[c]);
        right += item.right[c] ? std::exp(expected[c]) : 0;
        if (!item.right[c]) wrong = std::max(wrong, expected[c]);
      }
      EXPECT_EQ(sums["mc1"][0].get<double>() == 1, expected[0] > wrong) << item.id;
      EXPECT_NEAR(sums["mc2"][0].get<double>(), right / total, 1e-3) << item.id;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    SlowBenchmarks, MultipleChoiceTask,
    testing::Values(Benchmark{"hellaswag", "hellaswag/hellaswag_val_full.txt", read_hellaswag, kChoiceMetrics},
                    Benchmark{"arc", "arc/arc_challenge_val.jsonl", read_arc, kChoiceMetrics},
                    Benchmark{"piqa", "piqa/valid.jsonl", read_piqa, kChoiceMetrics},
                    Benchmark{"mmlu", "mmlu/mmlu.json", read_mmlu, kLetterMetrics},
                    Benchmark{"truthfulqa", "truthfulqa/TruthfulQA.csv", read_truthfulqa, kTruthMetrics}),
    [](const auto& parameter) { return std::string(parameter.param.name); });

TEST(MultipleChoice, DoesNotDependOnWhatWasScoredBefore) {
  const auto model = test::open_model(test::tiny_gguf());
  const auto open = [&] {
    return std::move(*engine::Session::create(model, {.n_ctx = 128, .n_batch = 16, .n_threads = 2}));
  };
  const std::vector<std::string> choices = {" one", " two or three"};
  const std::string examples =
      "Some examples that two questions have in common, which are longer than a batch of tokens. ";
  engine::Session fresh = open(), used = open();
  ChoiceScorer once(fresh), twice(used);
  ASSERT_TRUE(twice.score(examples + "First", choices).has_value());
  ASSERT_EXPECTED(const auto expected, once.score(examples + "Second", choices));
  ASSERT_EXPECTED(const auto scores, twice.score(examples + "Second", choices));
  EXPECT_EQ(scores.log_likelihood, expected.log_likelihood);
}

TEST(MultipleChoice, CutsAContextThatDoesNotFitFromTheLeft) {
  const auto model = test::open_model(test::to_gguf(test::make_tiny_checkpoint(test::tiny_config()).directory));
  ASSERT_EXPECTED(auto session, engine::Session::create(model, {.n_ctx = 24}));
  ChoiceScorer scorer(session);
  const std::vector<std::string> choices = {" ab"};
  ASSERT_EXPECTED(const auto scores, scorer.score(std::string(50, 'x') + " the end of it", choices));
  const size_t n = model->tokenizer().encode(std::string(50, 'x') + " the end of it ab").size();
  EXPECT_EQ(scores.n_cut, n - 25);
  const auto too_long = scorer.score("x", std::vector<std::string>{" " + std::string(40, 'q')});
  ASSERT_FALSE(too_long.has_value());
  EXPECT_NE(too_long.error().message.find("24"), std::string::npos) << too_long.error().message;
  EXPECT_TRUE(scorer.score("x", choices).has_value());
}

TEST(PromptTokens, HaveBosOnceAndSplitAtTheContext) {
  SHOEHORN_SHARED(model_path, "reference/fable-10m-Q8_0.gguf");
  const auto model = test::open_model(model_path);
  const auto& tokenizer = model->tokenizer();
  const Token bos = *tokenizer.vocab().bos;
  const auto part = continuation_tokens(tokenizer, "Question: why?\nAnswer:", " Because of it");
  EXPECT_EQ(part.ids[0], bos);
  EXPECT_EQ(std::count(part.ids.begin(), part.ids.end(), bos), 1);
  EXPECT_EQ(std::vector<Token>(part.ids.begin(), part.ids.begin() + static_cast<ptrdiff_t>(part.n_context)),
            prompt_tokens(tokenizer, "Question: why?\nAnswer:"));
  EXPECT_FALSE(part.merged);
  // "Be" + "cause" is one token of the whole: it is the continuation's.
  const auto merged = continuation_tokens(tokenizer, "It is so, be", "cause of it");
  EXPECT_TRUE(merged.merged);
  EXPECT_EQ(merged.ids, prompt_tokens(tokenizer, "It is so, because of it"));
  EXPECT_LT(merged.n_context, prompt_tokens(tokenizer, "It is so, be").size());
  // From nothing: BOS predicts.
  EXPECT_EQ(continuation_tokens(tokenizer, "", "Once").n_context, 1u);
  // Special tokens in a question are text.
  EXPECT_EQ(std::count(part.ids.begin(), part.ids.end(), *tokenizer.vocab().eos), 0);
}

}  // namespace
}  // namespace shoehorn::eval
