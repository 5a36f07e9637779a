#include "eval/bench.h"

#include <gtest/gtest.h>

#include <set>

#include "eval/machine_tree.h"
#include "support/running_model.h"

namespace shoehorn::eval {
namespace {

using test::open_session;
using test::tiny_gguf;

/// Counts what is reported, and asks to stop after a number of tokens.
class CountingProgress : public NoProgress {
 public:
  explicit CountingProgress(uint64_t stop_after = UINT64_MAX) : stop_after_(stop_after) {}
  void begin(std::string_view stage, uint64_t total) override {
    stages.emplace_back(stage);
    announced += total;
  }
  void advance(uint64_t units) override { done += units; }
  bool cancelled() const override { return done >= stop_after_; }

  std::vector<std::string> stages;
  uint64_t announced = 0, done = 0;

 private:
  uint64_t stop_after_;
};

TEST(Bench, NamesItsTestsAsLlamaBenchDoes) {
  EXPECT_EQ((BenchTest{512, 0, 0}).name(), "pp512");
  EXPECT_EQ((BenchTest{0, 128, 4096}).name(), "tg128 @ d4096");
  EXPECT_EQ((BenchTest{512, 128, 0}).name(), "pp512+tg128");
}

TEST(Bench, TokensLieInTheVocabularyAndDependOnThePositionAlone) {
  std::set<tokenizer::Token> seen;
  for (size_t position = 0; position < 1000; ++position) {
    const auto token = bench_token(position, 300);
    ASSERT_GE(token, 0);
    ASSERT_LT(token, 300);
    EXPECT_EQ(token, bench_token(position, 300));
    seen.insert(token);
  }
  EXPECT_GT(seen.size(), 250u) << "the tokens hardly differ";
}

TEST(Bench, MeasuresEveryRepetitionOfEveryTest) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64, .n_batch = 8, .n_threads = 2});
  const std::vector<BenchTest> tests = {{20, 0, 0}, {0, 5, 0}, {9, 3, 30}};
  CountingProgress progress;
  ASSERT_EXPECTED(const auto results, bench(session, tests, {.repetitions = 3}, progress));
  EXPECT_EQ(progress.stages, (std::vector<std::string>{"pp20", "tg5", "pp9+tg3 @ d30"}));
  EXPECT_EQ(progress.done, progress.announced);
  EXPECT_EQ(session.n_past(), 42u) << "the last test does not end where it should";
  ASSERT_EQ(results.size(), 3u);
  for (const BenchResult& r : results) {
    ASSERT_EQ(r.samples_ns.size(), 3u);
    ASSERT_EQ(r.samples_ts.size(), 3u);
    double sum = 0;
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(r.samples_ts[i] * static_cast<double>(r.samples_ns[i]),
                  1e9 * static_cast<double>(r.test.n_prompt + r.test.n_gen), 1e3);
      sum += r.samples_ts[i];
    }
    EXPECT_NEAR(r.avg_ts, sum / 3, 1e-6 * sum);
    EXPECT_GT(r.ttft_ms, 0);
    EXPECT_NEAR(r.ttlt_ms, r.avg_ns * 1e-6, 1e-3 * r.ttlt_ms);
    EXPECT_GT(r.peak_rss, 1u << 20);
    EXPECT_GT(r.mbu(1e9), 0);
    EXPECT_NEAR(r.mbu(1e9), 2 * r.mbu(2e9), 1e-9);
  }
  EXPECT_EQ(results[0].ttft_ms, results[0].ttlt_ms) << "a prompt alone ends with its first logits";
  EXPECT_LT(results[1].ttft_ms, results[1].ttlt_ms);
  EXPECT_LT(results[2].ttft_ms, results[2].ttlt_ms);
}

TEST(Bench, AnAnswersRateIsThatBetweenItsFirstAndItsLastToken) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64});
  const std::vector<BenchTest> tests = {{20, 0, 0}, {0, 8, 0}, {20, 8, 0}};
  NoProgress progress;
  ASSERT_EXPECTED(const auto results, bench(session, tests, {.repetitions = 2}, progress));
  EXPECT_EQ(results[0].answer_ts(), 0);
  EXPECT_EQ(results[1].answer_ts(), 0);
  EXPECT_NEAR(results[2].answer_ts() * (results[2].ttlt_ms - results[2].ttft_ms), 8000, 1e-6);
}

TEST(Bench, SaysWhatAGeneratedTokenReadsAndWhatTheCacheHolds) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64});
  const std::vector<BenchTest> tests = {{9, 3, 30}};
  NoProgress progress;
  ASSERT_EXPECTED(const auto results, bench(session, tests, {.repetitions = 1}, progress));
  const uint64_t position = session.cache().bytes() / 64;
  EXPECT_EQ(results[0].kv_bytes, 42 * position);
  EXPECT_EQ(results[0].weight_bytes + 42 * position, pass_bytes(session, 41, 1, true));
}

TEST(Bench, TheProfileIsOfOneMoreRepetitionThatIsNotAmongTheTimed) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64, .n_batch = 8});
  const std::vector<BenchTest> tests = {{20, 2, 7}};
  CountingProgress progress;
  ASSERT_EXPECTED(const auto results, bench(session, tests, {.repetitions = 2, .profile = true}, progress));
  EXPECT_EQ(results[0].samples_ns.size(), 2u);
  EXPECT_EQ(progress.done, progress.announced);
  for (const ProfileEntry& entry : results[0].profile) {
    if (entry.step == engine::Step::kEmbedding) {
      EXPECT_EQ(entry.calls, 5u) << "three batches and two tokens";
    }
    if (entry.step == engine::Step::kOutput) {
      EXPECT_EQ(entry.calls, 3u);
    }
  }
  EXPECT_FALSE(results[0].profile.empty());
  ASSERT_EXPECTED(const auto without, bench(session, tests, {.repetitions = 1}, progress));
  EXPECT_TRUE(without[0].profile.empty());
}

TEST(Bench, EveryRepetitionHasItsConditionsAndItsEnergy) {
  test::MachineTree board;
  board.file("/sys/class/hwmon/hwmon0/name", "ina219");
  board.file("/sys/class/hwmon/hwmon0/power1_input", "6000000");
  board.file("/sys/class/thermal/thermal_zone0/type", "cpu-thermal");
  board.file("/sys/class/thermal/thermal_zone0/temp", "55000");
  ASSERT_EXPECTED(auto opened, open_power_source("auto", board.host()));
  PowerRecorder recorder(std::move(opened.source));
  ConditionMonitor monitor(MachineProbe(board.host(), 1));
  auto session = open_session(tiny_gguf(), {.n_ctx = 512, .n_threads = 1});
  const std::vector<BenchTest> tests = {{0, 500, 0}};
  NoProgress progress;
  ASSERT_EXPECTED(const auto results,
                  bench(session, tests, {.repetitions = 3, .monitor = &monitor, .power = &recorder}, progress));
  const BenchResult& r = results[0];
  ASSERT_EQ(r.conditions.size(), 3u);
  ASSERT_EQ(r.windows.size(), 3u);
  ASSERT_EXPECTED(const EnergySeries series, recorder.series());
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(r.conditions[i].temperature_c, 55);
    const double timed = static_cast<double>(r.samples_ns[i]) * 1e-9;
    EXPECT_GT(r.windows[i].seconds(), timed - 0.001);
    EXPECT_LT(r.windows[i].seconds(), timed + 1) << "more than a moment on a busy machine";
    // Samples at both ends, though they lie a little outside of the window, and one each 100 ms between.
    EXPECT_LE(series.samples().front().time, r.windows[i].begin);
    EXPECT_GE(series.samples().back().time, r.windows[i].end);
    EXPECT_GE(r.windows[i].begin, i > 0 ? r.windows[i - 1].end : 0);
  }
}

TEST(Bench, OneRepetitionHasNoDeviation) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64});
  const std::vector<BenchTest> tests = {{4, 2, 0}};
  NoProgress progress;
  ASSERT_EXPECTED(const auto results, bench(session, tests, {.repetitions = 1, .warm_up = false}, progress));
  EXPECT_EQ(results[0].stddev_ts, 0);
  EXPECT_EQ(results[0].stddev_ns, 0);
}

/// Decoding reads every matrix but the embedding, of which it takes a row; with tied weights that is the output matrix.
TEST(Bench, CountsTheBytesThatAPassReads) {
  for (const bool tied : {false, true}) {
    auto session = open_session(tiny_gguf(1, tied), {.n_ctx = 64});
    const engine::Weight& embedding = session.model().global()[models::Role::kTokenEmbd];
    uint64_t all = 0;
    for (const auto& tensor : session.model().file().tensors()) all += tensor.data.size();
    const uint64_t matrix = embedding.n_rows * embedding.row_bytes, kv = session.cache().bytes() / 64;
    EXPECT_EQ(pass_bytes(session, 10, 3, true), (tied ? all : all - matrix) + 3 * embedding.row_bytes + 13 * kv);
    // Without logits: no output matrix, and of the last layer neither queries nor attention, its product and the MLP.
    const std::string last = fmt::format("blk.{}.", session.model().hparams().n_layer - 1);
    uint64_t skipped = matrix + 13 * kv / session.model().hparams().n_layer;
    for (const char* name : {"attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
      skipped += session.model().file().find(last + name + ".weight")->data.size();
    EXPECT_EQ(pass_bytes(session, 10, 3, true) - pass_bytes(session, 10, 3, false), skipped);
  }
}

TEST(Bench, ARepetitionReadsTheWeightsOncePerBatchAndOncePerGeneratedToken) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64, .n_batch = 8});
  const std::vector<BenchTest> tests = {{20, 2, 0}};
  NoProgress progress;
  ASSERT_EXPECTED(const auto results, bench(session, tests, {.repetitions = 1}, progress));
  EXPECT_EQ(results[0].bytes_read, pass_bytes(session, 0, 8, false) + pass_bytes(session, 8, 8, false) +
                                       pass_bytes(session, 16, 4, true) + pass_bytes(session, 20, 1, true) +
                                       pass_bytes(session, 21, 1, true));
}

TEST(Bench, RefusesATestThatDoesNotFitBeforeItRunsAny) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64});
  const std::vector<BenchTest> tests = {{4, 0, 0}, {0, 10, 55}};
  CountingProgress progress;
  const auto result = bench(session, tests, {}, progress);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(result.error().message.find("tg10 @ d55 needs 65 positions, the context has 64"), std::string::npos)
      << result.error().message;
  EXPECT_TRUE(progress.stages.empty());
}

TEST(Bench, RefusesTestsWithoutTokensAndZeroRepetitions) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64});
  const std::vector<BenchTest> empty = {{0, 0, 8}}, good = {{4, 0, 0}};
  NoProgress progress;
  EXPECT_FALSE(bench(session, empty, {}, progress).has_value());
  EXPECT_FALSE(bench(session, good, {.repetitions = 0}, progress).has_value());
}

TEST(Bench, StopsWhenAsked) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 64, .n_batch = 4});
  const std::vector<BenchTest> tests = {{40, 0, 0}};
  CountingProgress progress(12);
  const auto result = bench(session, tests, {}, progress);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(progress.done, 12u);
}

TEST(LogitsHash, IsTheSameForAnyNumberOfThreadsAndAfterOtherWork) {
  const std::string path = tiny_gguf();
  std::set<uint64_t> hashes;
  for (const int n_threads : {1, 2, 3}) {
    auto session = open_session(path, {.n_ctx = 64, .n_threads = n_threads});
    ASSERT_EXPECTED(const uint64_t fresh, logits_hash(session));
    const std::vector<BenchTest> tests = {{7, 3, 2}};
    NoProgress progress;
    ASSERT_TRUE(bench(session, tests, {.repetitions = 1}, progress).has_value());
    ASSERT_EXPECTED(const uint64_t again, logits_hash(session));
    hashes.insert({fresh, again});
  }
  EXPECT_EQ(hashes.size(), 1u);
}

TEST(LogitsHash, TellsModelsApart) {
  auto one = open_session(tiny_gguf(1), {.n_ctx = 64}), other = open_session(tiny_gguf(2), {.n_ctx = 64});
  EXPECT_NE(*logits_hash(one), *logits_hash(other));
}

TEST(LogitsHash, RefusesAContextThatIsTooShort) {
  auto session = open_session(tiny_gguf(), {.n_ctx = 16});
  const auto hash = logits_hash(session);
  ASSERT_FALSE(hash.has_value());
  EXPECT_EQ(hash.error().code, ErrorCode::kTooLarge);
}

}  // namespace
}  // namespace shoehorn::eval
