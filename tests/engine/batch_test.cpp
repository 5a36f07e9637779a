// Several sequences at once against one at a time.
#include "engine/batch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "convert/gguf_output.h"
#include "engine/scheduler.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::engine {
namespace {

using tokenizer::Token;

std::shared_ptr<const Model> open_model(const std::string& path) {
  auto model = Model::open(path);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return *model;
}

std::shared_ptr<const Model> tiny_model(const char* type, Json config = test::tiny_config()) {
  NoProgress progress;
  auto source = convert::ModelSource::open(test::make_tiny_checkpoint(config).directory, progress);
  EXPECT_TRUE(source.has_value()) << source.error().message;
  const std::string path = test::temp_dir() + "/model.gguf";
  EXPECT_TRUE(convert::write_gguf(*source, path, {.mix = quant::find_mix(type)}, progress).has_value());
  return open_model(path);
}

std::vector<Token> some_tokens(size_t n, size_t seed) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < n; ++i) tokens.push_back(static_cast<Token>((i * 37 + seed * 101 + i * i * seed) % 250));
  return tokens;
}

std::vector<float> logits_alone(const std::shared_ptr<const Model>& model, const SessionOptions& options,
                                const std::vector<std::vector<Token>>& portions) {
  auto session = Session::create(model, options);
  EXPECT_TRUE(session.has_value());
  std::span<const float> logits;
  for (const auto& portion : portions) logits = *session->eval(portion);
  return {logits.begin(), logits.end()};
}

std::vector<float> row(std::span<const float> logits, size_t i, size_t n_vocab) {
  const auto part = logits.subspan(i * n_vocab, n_vocab);
  return {part.begin(), part.end()};
}

TEST(Batch, OneTokenOfEachSequenceIsBitByBitWhatASessionComputes) {
  for (const char* type : {"F32", "F16", "Q8_0", "Q4_0"}) {
    const auto model = tiny_model(type);
    const SessionOptions options = {.n_ctx = 64, .n_threads = 2};
    auto batch = Batch::create(model, options, 5);
    ASSERT_TRUE(batch.has_value());
    std::vector<std::vector<Token>> prompts;
    for (size_t s = 0; s < 5; ++s) {
      prompts.push_back(some_tokens(3 + 9 * s, s));
      ASSERT_TRUE(batch->eval(std::vector<BatchInput>{{s, prompts[s], 0}}).has_value());
    }
    const std::vector<Token> next = {7, 9, 11, 13, 15};
    // In another order than they were made, without one.
    const std::vector<BatchInput> inputs = {
        {4, {&next[4], 1}}, {0, {&next[0], 1}}, {2, {&next[2], 1}}, {1, {&next[1], 1}}};
    ASSERT_EXPECTED(const auto logits, batch->eval(inputs));
    for (size_t i = 0; i < inputs.size(); ++i) {
      const size_t s = inputs[i].sequence;
      EXPECT_EQ(row(logits, i, model->hparams().n_vocab), logits_alone(model, options, {prompts[s], {next[s]}}))
          << type << " " << s;
    }
    EXPECT_EQ(batch->n_past(3), prompts[3].size());
    EXPECT_EQ(batch->n_past(4), prompts[4].size() + 1);
  }
}

TEST(Batch, APassMayMixPromptsAndSingleTokens) {
  Json jagged = test::tiny_config();
  jagged["intermediate_size"] = {96, 32, 64};
  jagged["num_attention_heads"] = {4, 0, 2};
  jagged["num_key_value_heads"] = {2, 0, 1};
  Json no_attention_last = test::tiny_config();
  no_attention_last["num_attention_heads"] = {4, 2, 0};
  no_attention_last["num_key_value_heads"] = {2, 1, 0};
  for (const Json& config : {test::tiny_config(), jagged, no_attention_last}) {
    const auto model = tiny_model("F32", config);
    const SessionOptions options = {
        .n_ctx = 64, .n_batch = 40, .n_threads = 2, .key_type = quant::Type::F32, .value_type = quant::Type::F32};
    auto batch = Batch::create(model, options, 3);
    ASSERT_TRUE(batch.has_value());
    const auto a = some_tokens(20, 1), b = some_tokens(13, 2), c = some_tokens(9, 3);
    const std::vector<Token> next = {5};
    ASSERT_TRUE(batch->eval(std::vector<BatchInput>{{0, a, 0}}).has_value());
    // One generates, one is read half-way without logits, one is read to its end with two rows.
    ASSERT_EXPECTED(const auto logits, batch->eval(std::vector<BatchInput>{{1, b, 0}, {0, next, 1}, {2, c, 2}}));
    ASSERT_EQ(logits.size(), 3 * model->hparams().n_vocab);
    const auto expect_near = [&](const std::vector<float>& got, const std::vector<float>& expected) {
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-4);
    };
    const size_t n_vocab = model->hparams().n_vocab;
    expect_near(row(logits, 0, n_vocab), logits_alone(model, options, {a, next}));
    expect_near(row(logits, 1, n_vocab), logits_alone(model, options, {{c.begin(), c.end() - 1}}));
    expect_near(row(logits, 2, n_vocab), logits_alone(model, options, {c}));
    ASSERT_EXPECTED(const auto more, batch->eval(std::vector<BatchInput>{{1, next, 1}}));
    expect_near(row(more, 0, n_vocab), logits_alone(model, options, {b, next}));
  }
}

TEST(Batch, LongSequencesSideBySideAreMergedFromRangesEachForItself) {
  Json config = test::tiny_config();
  config["max_position_embeddings"] = 4096;
  const auto model = tiny_model("Q8_0", config);
  const SessionOptions options = {.n_ctx = 2200, .n_batch = 512, .n_threads = 2};
  auto batch = Batch::create(model, options, 3);
  ASSERT_TRUE(batch.has_value());
  const std::vector<std::vector<Token>> prompts = {some_tokens(2100, 1), some_tokens(30, 2), some_tokens(1100, 3)};
  const std::vector<Token> next = {5};
  std::vector<BatchInput> inputs;
  for (size_t s = 0; s < 3; ++s) {
    for (size_t at = 0; at < prompts[s].size(); at += 512) {
      const auto portion =
          std::span<const Token>(prompts[s]).subspan(at, std::min<size_t>(512, prompts[s].size() - at));
      ASSERT_TRUE(batch->eval(std::vector<BatchInput>{{s, portion, 0}}).has_value());
    }
    inputs.push_back({s, next, 1});
  }
  ASSERT_EXPECTED(const auto logits, batch->eval(inputs));
  for (size_t s = 0; s < 3; ++s)
    EXPECT_EQ(row(logits, s, model->hparams().n_vocab), logits_alone(model, options, {prompts[s], next})) << s;
}

TEST(Batch, ACopiedPrefixIsAsGoodAsTheOriginal) {
  const auto model = tiny_model("Q8_0");
  const SessionOptions options = {.n_ctx = 64, .n_threads = 2};
  auto batch = Batch::create(model, options, 2);
  ASSERT_TRUE(batch.has_value());
  const auto prompt = some_tokens(30, 1);
  ASSERT_TRUE(batch->eval(std::vector<BatchInput>{{0, prompt, 0}}).has_value());
  ASSERT_TRUE(batch->eval(std::vector<BatchInput>{{1, some_tokens(40, 2), 0}}).has_value());
  batch->copy_prefix(0, 1, 30);
  EXPECT_EQ(batch->n_past(1), 30u);
  const std::vector<Token> next = {5};
  ASSERT_EXPECTED(const auto logits, batch->eval(std::vector<BatchInput>{{1, next, 1}}));
  EXPECT_EQ(row(logits, 0, model->hparams().n_vocab), logits_alone(model, options, {prompt, next}));
}

TEST(Batch, RefusesWhatDoesNotFitAndAppendsNothing) {
  const auto model = tiny_model("F32");
  auto batch = Batch::create(model, {.n_ctx = 16, .n_batch = 8, .n_threads = 1}, 2);
  ASSERT_TRUE(batch.has_value());
  const auto eight = some_tokens(8, 1);
  ASSERT_TRUE(batch->eval(std::vector<BatchInput>{{0, eight, 0}}).has_value());
  ASSERT_TRUE(batch->eval(std::vector<BatchInput>{{0, eight, 0}}).has_value());
  const std::vector<Token> one = {1}, bad = {300};
  EXPECT_EQ(batch->eval(std::vector<BatchInput>{{1, one, 1}, {0, one, 1}}).error().code, ErrorCode::kTooLarge);
  EXPECT_FALSE(batch->eval(std::vector<BatchInput>{{1, one, 1}, {1, one, 1}}).has_value());
  EXPECT_FALSE(batch->eval(std::vector<BatchInput>{{2, one, 1}}).has_value());
  EXPECT_FALSE(batch->eval(std::vector<BatchInput>{{1, bad, 1}}).has_value());
  EXPECT_FALSE(batch->eval(std::vector<BatchInput>{{1, some_tokens(9, 1), 1}}).has_value());
  EXPECT_EQ(batch->n_past(1), 0u);
  EXPECT_EQ(Batch::create(model, {.n_ctx = size_t{1} << 24, .n_threads = 1}, size_t{1} << 20).error().code,
            ErrorCode::kTooLarge);
}

/// Everything that decides an answer.
struct Query {
  std::vector<Token> prompt;
  int64_t max_tokens;
  SamplerOptions sampler;
};

std::vector<Query> queries(size_t n, size_t longest) {
  std::vector<Query> out;
  for (size_t i = 0; i < n; ++i) {
    SamplerOptions sampler = {.temperature = i % 3 == 0 ? 0.0f : 0.9f, .seed = static_cast<uint32_t>(i)};
    out.push_back({some_tokens(1 + i * 29 % longest, i), static_cast<int64_t>(3 + i * 7 % 20), sampler});
  }
  return out;
}

Generation alone(const std::shared_ptr<const Model>& model, const SessionOptions& options, const Query& query) {
  auto session = Session::create(model, options);
  EXPECT_TRUE(session.has_value());
  Sampler sampler(query.sampler);
  NoProgress progress;
  auto result = generate(*session, query.prompt, sampler, query.max_tokens, progress, [](Token) { return true; });
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return *result;
}

std::vector<Generation> together(const std::shared_ptr<const Model>& model, const SessionOptions& options,
                                 size_t n_sequences, const std::vector<Query>& queries) {
  auto batch = Batch::create(model, options, n_sequences);
  EXPECT_TRUE(batch.has_value());
  Scheduler scheduler(*batch);
  for (const Query& query : queries) scheduler.submit({query.prompt, query.sampler, query.max_tokens, {}});
  std::vector<Generation> out(queries.size());
  size_t n_done = 0;
  while (!scheduler.idle()) {
    auto answers = scheduler.step();
    EXPECT_TRUE(answers.has_value());
    for (Answer& answer : *answers) {
      EXPECT_TRUE(answer.result.has_value()) << answer.result.error().message;
      out[answer.id] = std::move(*answer.result);
      ++n_done;
    }
  }
  EXPECT_EQ(n_done, queries.size());
  return out;
}

void expect_same(const std::vector<Generation>& got, const std::vector<Generation>& expected) {
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].ids, expected[i].ids) << i;
    EXPECT_EQ(got[i].top2_gaps, expected[i].top2_gaps) << i;
    EXPECT_EQ(got[i].stop, expected[i].stop) << i;
    EXPECT_EQ(got[i].n_prompt, expected[i].n_prompt) << i;
  }
}

TEST(Scheduler, AnswersAreBitByBitThoseMadeOneAtATime) {
  for (const char* type : {"F32", "Q8_0"}) {
    const auto model = tiny_model(type);
    const auto asked = queries(20, 50);
    const SessionOptions one_thread = {.n_ctx = 64, .n_batch = 16, .n_threads = 1},
                         three_threads = {.n_ctx = 64, .n_batch = 16, .n_threads = 3};
    std::vector<Generation> expected;
    for (const Query& query : asked) expected.push_back(alone(model, one_thread, query));
    for (const size_t n : {1, 3, 8}) {
      expect_same(together(model, one_thread, n, asked), expected);
      expect_same(together(model, three_threads, n, asked), expected);
    }
  }
}

TEST(Scheduler, SharesWhatPromptsHaveInCommonWithoutAChange) {
  const auto model = tiny_model("Q8_0");
  const SessionOptions options = {.n_ctx = 128, .n_batch = 16, .n_threads = 2};
  const auto common = some_tokens(70, 1);
  std::vector<Query> asked;
  std::vector<Generation> expected;
  size_t n_tokens = 0;
  for (size_t i = 0; i < 6; ++i) {
    asked.push_back({common, 5, {.temperature = 0}});
    const auto rest = some_tokens(1 + 3 * i, 7 + i);
    asked.back().prompt.insert(asked.back().prompt.end(), rest.begin(), rest.end());
    n_tokens += asked.back().prompt.size();
    expected.push_back(alone(model, options, asked.back()));
  }
  expect_same(together(model, options, 3, asked), expected);
  auto batch = Batch::create(model, options, 3);
  Scheduler scheduler(*batch);
  for (const Query& query : asked) scheduler.submit({query.prompt, query.sampler, query.max_tokens, {}});
  while (!scheduler.idle()) ASSERT_TRUE(scheduler.step().has_value());
  EXPECT_EQ(scheduler.n_read(), n_tokens - 5 * 64);
}

TEST(Scheduler, RequestsComeAndGoBetweenSteps) {
  const auto model = tiny_model("Q8_0");
  const SessionOptions options = {.n_ctx = 64, .n_batch = 16, .n_threads = 2};
  auto batch = Batch::create(model, options, 2);
  ASSERT_TRUE(batch.has_value());
  Scheduler scheduler(*batch);
  std::vector<Token> seen;
  const Query kept = {some_tokens(20, 1), 12, {.temperature = 0}};
  const auto first = scheduler.submit({kept.prompt, kept.sampler, kept.max_tokens, [&](Token token) {
                                         seen.push_back(token);
                                         return true;
                                       }});
  const auto dropped = scheduler.submit({some_tokens(30, 2), {.temperature = 0}, 20, {}});
  ASSERT_TRUE(scheduler.step().has_value());
  ASSERT_TRUE(scheduler.step().has_value());
  EXPECT_EQ(scheduler.n_active(), 2u);
  EXPECT_TRUE(scheduler.cancel(dropped));
  EXPECT_FALSE(scheduler.cancel(dropped));
  const Query late = {some_tokens(11, 3), 4, {.temperature = 0}};
  const auto second = scheduler.submit({late.prompt, late.sampler, late.max_tokens, {}});
  // Stops itself after two tokens; waits for a sequence.
  size_t drawn = 0;
  const auto third = scheduler.submit({some_tokens(5, 4), {.temperature = 0}, 9, [&](Token) { return ++drawn < 2; }});
  std::map<uint64_t, Generation> answers;
  while (!scheduler.idle()) {
    auto done = scheduler.step();
    ASSERT_TRUE(done.has_value());
    for (Answer& answer : *done) answers[answer.id] = std::move(*answer.result);
  }
  ASSERT_EQ(answers.size(), 3u);
  expect_same({answers[first], answers[second]}, {alone(model, options, kept), alone(model, options, late)});
  EXPECT_EQ(seen, answers[first].ids);
  EXPECT_EQ(answers[third].stop, StopReason::kStopped);
  EXPECT_EQ(answers[third].ids.size(), 2u);
}

TEST(Scheduler, ALongPromptLetsThoseWhoGenerateGoOnAndIsReadTheSame) {
  const auto model = tiny_model("Q8_0");
  const SessionOptions options = {.n_ctx = 640, .n_batch = 256, .n_threads = 1};
  auto batch = Batch::create(model, options, 2);
  ASSERT_TRUE(batch.has_value());
  Scheduler scheduler(*batch, 1);
  const size_t portion = 2 * batch->few_tokens();
  const Query talker = {some_tokens(9, 1), 60, {.temperature = 0}};
  size_t drawn = 0;
  // Whose last portion is short, just long enough for the kernels of many, and something between.
  for (const size_t n : {size_t{256 + 3}, size_t{256 + 2 * portion + 1}, size_t{400}}) {
    const auto first =
        scheduler.submit({talker.prompt, talker.sampler, talker.max_tokens, [&](Token) { return ++drawn > 0; }});
    ASSERT_TRUE(scheduler.step().has_value());
    const Query late = {some_tokens(n, n), 5, {.temperature = 0}};
    const auto second = scheduler.submit({late.prompt, late.sampler, late.max_tokens, {}});
    Generation answer;
    for (bool over = false; !over;) {
      const uint64_t read = scheduler.n_read();
      const size_t before = drawn;
      auto done = scheduler.step();
      ASSERT_TRUE(done.has_value());
      if (scheduler.n_active() == 2) {
        EXPECT_LE(scheduler.n_read() - read, portion) << "no more than that between two tokens";
        EXPECT_EQ(drawn, before + 1);
      }
      for (Answer& one : *done) {
        if (one.id != second) continue;
        over = true;
        answer = std::move(*one.result);
      }
    }
    expect_same({answer}, {alone(model, options, late)});
    scheduler.cancel(first);
  }
}

TEST(Scheduler, APromptThatDoesNotFitFailsAlone) {
  const auto model = tiny_model("F32");
  auto batch = Batch::create(model, {.n_ctx = 32, .n_threads = 1}, 1);
  ASSERT_TRUE(batch.has_value());
  Scheduler scheduler(*batch);
  scheduler.submit({some_tokens(33, 1), {}, 5, {}});
  scheduler.submit({{}, {}, 5, {}});
  scheduler.submit({some_tokens(30, 1), {.temperature = 0}, -1, {}});
  scheduler.submit({some_tokens(3, 1), {}, 0, {}});
  std::map<uint64_t, Answer> answers;
  while (!scheduler.idle()) {
    auto done = scheduler.step();
    ASSERT_TRUE(done.has_value());
    for (Answer& answer : *done) answers.emplace(answer.id, std::move(answer));
  }
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_EQ(answers.at(0).result.error().code, ErrorCode::kTooLarge);
  EXPECT_EQ(answers.at(1).result.error().code, ErrorCode::kInvalid);
  EXPECT_EQ(answers.at(2).result->stop, StopReason::kContextFull);
  EXPECT_EQ(answers.at(2).result->ids.size(), 3u);  // two that were evaluated, and the last
  EXPECT_TRUE(answers.at(3).result->ids.empty());
}

/// With more sequences than the kernels for few tokens take, greedy answers part only where two tokens are nearly as
/// likely.
TEST(SlowScheduler, ManySequencesGiveTheSameAnswersUpToTheKernelsRounding) {
  SHOEHORN_SHARED(path, "reference/fable-10m-Q4_K_M.gguf");
  const auto model = open_model(path);
  const SessionOptions options = {.n_ctx = 128, .n_threads = 2};
  std::vector<Query> asked;
  const std::array texts = {"Once upon a time", "The old man said", "In the morning", "There was a",  "It is a truth",
                            "She looked at",    "When the war",     "My dear sir,",   "The king of",  "On the table",
                            "He had never",     "A dog and",        "The sea was",    "Nothing could"};
  const size_t n_many = model->kernels().batch_from + 5;
  for (size_t i = 0; i < n_many; ++i) {
    const std::array ends = {"", " then", " only", " very"};
    const std::string text = std::string(texts[i % texts.size()]) + ends.at(i / texts.size());
    asked.push_back({model->tokenizer().encode(text), 40, {.temperature = 0}});
  }
  const auto few = together(model, options, 8, asked), many = together(model, options, n_many, asked);
  size_t n_same = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    const Generation expected = alone(model, options, asked[i]);
    EXPECT_EQ(few[i].ids, expected.ids) << i;
    const auto differ = std::mismatch(many[i].ids.begin(), many[i].ids.end(), expected.ids.begin(), expected.ids.end());
    const auto at = static_cast<size_t>(differ.second - expected.ids.begin());
    if (at < expected.ids.size()) {
      EXPECT_LT(expected.top2_gaps[at], 0.3f) << i << " at " << at;
    }
    n_same += at == expected.ids.size();
  }
  EXPECT_GE(n_same, 7u);
}

}  // namespace
}  // namespace shoehorn::engine
