#include "eval/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "base/hash.h"
#include "base/memory.h"
#include "eval/statistics.h"

namespace shoehorn::eval {
namespace {

using Clock = std::chrono::steady_clock;
using models::Role;
using tokenizer::Token;

double milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

/// One forward pass over the tokens of the next positions.
Status pass(engine::Session& session, size_t n_tokens, bool logits, Progress& progress) {
  if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
  std::vector<Token> tokens;
  for (size_t i = 0; i < n_tokens; ++i) tokens.push_back(bench_token(session.n_past() + i, session.n_vocab()));
  SHOEHORN_RETURN_IF_ERROR(session.eval(tokens, logits ? 1 : 0));
  progress.advance(n_tokens);
  return {};
}

/// Reads a prompt up to position `end` in batches; the logits of its last token when wanted.
Status read_prompt(engine::Session& session, size_t end, bool logits, Progress& progress) {
  while (session.n_past() < end) {
    const size_t n = std::min(session.n_batch(), end - session.n_past());
    SHOEHORN_RETURN_IF_ERROR(pass(session, n, logits && session.n_past() + n == end, progress));
  }
  return {};
}

/// Reads up to position `end` as generation does: token by token, with the logits of each.
Status generate(engine::Session& session, size_t end, Progress& progress) {
  while (session.n_past() < end) SHOEHORN_RETURN_IF_ERROR(pass(session, 1, true, progress));
  return {};
}

/// What a repetition of the test reads from memory at least.
uint64_t test_bytes(const engine::Session& session, const BenchTest& test) {
  const size_t prompt_end = test.n_depth + test.n_prompt;
  uint64_t bytes = 0;
  for (size_t at = test.n_depth, n = 0; at < prompt_end; at += n) {
    n = std::min(session.n_batch(), prompt_end - at);
    bytes += pass_bytes(session, at, n, at + n == prompt_end);
  }
  for (size_t at = prompt_end; at < test.positions(); ++at) bytes += pass_bytes(session, at, 1, true);
  return bytes;
}

/// The test's tokens, on top of what the context holds already.
Status read_and_generate(engine::Session& session, const BenchTest& test, Progress& progress) {
  SHOEHORN_RETURN_IF_ERROR(read_prompt(session, test.n_depth + test.n_prompt, true, progress));
  return generate(session, test.positions(), progress);
}

uint64_t position_bytes(const engine::Session& session) { return session.cache().bytes() / session.n_ctx(); }

/// The context keeps the n_depth tokens from one repetition, and from one test, to the next: they are the same in all.
Expected<BenchResult> run_test(engine::Session& session, const BenchTest& test, const BenchOptions& options,
                               Progress& progress) {
  const size_t n_tokens = test.n_prompt + test.n_gen, prompt_end = test.n_depth + test.n_prompt;
  const size_t n_warm_up = options.warm_up ? test.n_prompt + std::min<size_t>(test.n_gen, 1) : 0;
  BenchResult result;
  result.test = test;
  result.started = std::time(nullptr);
  progress.begin(test.name(), test.n_depth + n_warm_up + (options.repetitions + (options.profile ? 1 : 0)) * n_tokens);
  const size_t n_kept = std::min(session.n_past(), test.n_depth);
  session.truncate(n_kept);
  progress.advance(n_kept);
  SHOEHORN_RETURN_IF_ERROR(read_prompt(session, test.n_depth, false, progress));
  if (options.warm_up) {
    SHOEHORN_RETURN_IF_ERROR(read_prompt(session, prompt_end, true, progress));
    SHOEHORN_RETURN_IF_ERROR(generate(session, std::min(prompt_end + 1, test.positions()), progress));
  }
  double first_ms = 0, last_ms = 0;
  for (size_t i = 0; i < options.repetitions; ++i) {
    session.truncate(test.n_depth);
    if (options.monitor != nullptr) options.monitor->begin();
    if (options.power != nullptr) options.power->mark();
    const double begin = unix_seconds();
    const auto start = Clock::now();
    SHOEHORN_RETURN_IF_ERROR(read_prompt(session, prompt_end, true, progress));
    // The prompt's logits are the first token's; without a prompt the first step brings them.
    if (test.n_prompt == 0) SHOEHORN_RETURN_IF_ERROR(generate(session, prompt_end + 1, progress));
    const auto first = Clock::now();
    SHOEHORN_RETURN_IF_ERROR(generate(session, test.positions(), progress));
    const auto last = test.n_gen > 0 ? Clock::now() : first;
    result.windows.push_back({begin, unix_seconds()});
    if (options.power != nullptr) options.power->mark();
    if (options.monitor != nullptr) result.conditions.push_back(options.monitor->end());
    const auto ns = static_cast<uint64_t>(std::chrono::nanoseconds(last - start).count());
    result.samples_ns.push_back(ns);
    result.samples_ts.push_back(1e9 * static_cast<double>(n_tokens) / static_cast<double>(std::max<uint64_t>(ns, 1)));
    first_ms += milliseconds(first - start);
    last_ms += milliseconds(last - start);
  }
  if (options.profile) {
    session.truncate(test.n_depth);
    const StepProfiler profiler(session);
    SHOEHORN_RETURN_IF_ERROR(read_and_generate(session, test, progress));
    result.profile = profiler.entries();
  }
  progress.end();
  const MeanDeviation ns = mean_and_deviation(result.samples_ns), ts = mean_and_deviation(result.samples_ts);
  result.avg_ns = ns.mean;
  result.stddev_ns = ns.deviation;
  result.avg_ts = ts.mean;
  result.stddev_ts = ts.deviation;
  result.ttft_ms = first_ms / static_cast<double>(options.repetitions);
  result.ttlt_ms = last_ms / static_cast<double>(options.repetitions);
  result.bytes_read = test_bytes(session, test);
  result.weight_bytes = pass_bytes(session, 0, 1, true) - position_bytes(session);
  result.kv_bytes = test.positions() * position_bytes(session);
  result.peak_rss = peak_resident_bytes();
  return result;
}

}  // namespace

std::string BenchTest::name() const {
  std::string name;
  if (n_prompt > 0) name += fmt::format("pp{}", n_prompt);
  if (n_gen > 0) name += fmt::format("{}tg{}", name.empty() ? "" : "+", n_gen);
  if (n_depth > 0) name += fmt::format(" @ d{}", n_depth);
  return name;
}

double bandwidth_utilization(double bytes, double seconds, double bytes_per_second) {
  return bytes / seconds / bytes_per_second;
}

double BenchResult::answer_ts() const {
  if (test.n_prompt == 0 || test.n_gen == 0 || ttlt_ms <= ttft_ms) return 0;
  return static_cast<double>(test.n_gen) / ((ttlt_ms - ttft_ms) * 1e-3);
}

uint64_t pass_bytes(const engine::Session& session, size_t n_past, size_t n_tokens, bool logits) {
  const engine::Model& model = session.model();
  const engine::Weight& embedding = model.global()[Role::kTokenEmbd];
  const engine::Weight& output = model.output();
  uint64_t weights = 0;
  const double experts = models::experts_read(model.hparams(), n_tokens);
  const auto read_of = [&](const io::GgufTensor& tensor) {
    const double share = tensor.shape.size() > 2 ? experts / model.hparams().n_expert : 1;
    return static_cast<uint64_t>(std::llround(share * static_cast<double>(tensor.data.size())));
  };
  for (const io::GgufTensor& tensor : model.file().tensors()) weights += read_of(tensor);
  const uint64_t embedding_bytes = embedding.n_rows * embedding.row_bytes,
                 output_bytes = output.n_rows * output.row_bytes;
  weights -= embedding_bytes;
  if (!model.hparams().tied_embeddings) weights -= output_bytes;
  uint64_t kv = (n_past + n_tokens) * position_bytes(session);
  if (logits) {
    weights += output_bytes;
  } else {
    // Of the last layer only keys and values are wanted.
    const engine::WeightSet& last = model.layer(model.hparams().n_layer - 1);
    for (const Role role : {Role::kAttnQ, Role::kAttnOutput, Role::kFfnRouter, Role::kFfnGate, Role::kFfnUp, Role::kFfnDown}) {
      weights -= last[role].n_rows * last[role].row_bytes;
      const engine::Weight& one = last[{role, 0}];
      weights -= static_cast<uint64_t>(std::llround(experts * static_cast<double>(one.n_rows * one.row_bytes)));
    }
    const engine::KvCache& cache = session.cache();
    kv -= (n_past + n_tokens) * model.hparams().layers.back().n_head_kv * (cache.key_bytes() + cache.value_bytes());
  }
  return weights + n_tokens * embedding.row_bytes + kv;
}

Token bench_token(size_t position, size_t n_vocab) {
  // SplitMix64 (Steele, Lea, Flood 2014).
  uint64_t z = (static_cast<uint64_t>(position) + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return static_cast<Token>((z ^ (z >> 31)) % n_vocab);
}

Expected<std::vector<BenchResult>> bench(engine::Session& session, std::span<const BenchTest> tests,
                                         const BenchOptions& options, Progress& progress) {
  if (options.repetitions == 0) return fail(ErrorCode::kInvalid, "0 repetitions; at least 1 is needed");
  for (const BenchTest& test : tests) {
    if (test.n_prompt + test.n_gen == 0) return fail(ErrorCode::kInvalid, "a test of 0 tokens has no rate");
    if (test.positions() > session.n_ctx()) {
      return fail(ErrorCode::kTooLarge, "{} needs {} positions, the context has {}", test.name(), test.positions(),
                  session.n_ctx());
    }
  }
  session.truncate(0);
  std::vector<BenchResult> results;
  for (const BenchTest& test : tests) {
    SHOEHORN_TRY(auto result, run_test(session, test, options, progress));
    results.push_back(std::move(result));
  }
  return results;
}

Expected<uint64_t> logits_hash(engine::Session& session) {
  constexpr size_t kInBatch = 32;
  if (session.n_ctx() < kHashPositions) {
    return fail(ErrorCode::kTooLarge, "the hash of the logits needs {} positions, the context has {}", kHashPositions,
                session.n_ctx());
  }
  session.truncate(0);
  Fnv1a hash;
  while (session.n_past() < kHashPositions) {
    std::vector<Token> tokens;
    const size_t end = std::max(kInBatch, session.n_past() + 1);
    for (size_t at = session.n_past(); at < end; ++at) tokens.push_back(bench_token(at, session.n_vocab()));
    SHOEHORN_TRY(const auto logits, session.eval(tokens));
    hash.add(std::as_bytes(std::span(logits)));
  }
  return hash.value();
}

}  // namespace shoehorn::eval
