// Prefill and decode rates of a model on this machine, by llama-bench's protocol.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "engine/session.h"
#include "eval/conditions.h"
#include "eval/power_recorder.h"
#include "eval/profile.h"

namespace shoehorn::eval {

/// n_prompt tokens read in batches and then n_gen one at a time, on top of n_depth that are read before and not timed.
struct BenchTest {
  size_t n_prompt = 0, n_gen = 0, n_depth = 0;

  /// Positions of the context that it takes.
  size_t positions() const { return n_depth + n_prompt + n_gen; }
  /// As llama-bench writes it: "pp512", "tg128 @ d4096", "pp512+tg128".
  std::string name() const;
};

struct BenchOptions {
  size_t repetitions = 5;  ///< timed; at least 1
  bool warm_up = true;     ///< read the prompt and draw one token once before, not timed
  bool profile = false;    ///< one more repetition after the timed ones, whose steps are timed

  // Told where each repetition begins and ends; may be nullptr.
  ConditionMonitor* monitor = nullptr;
  PowerRecorder* power = nullptr;
};

/// Memory bandwidth utilization: the share of `bytes_per_second` that reading `bytes` in `seconds` takes.
double bandwidth_utilization(double bytes, double seconds, double bytes_per_second);

/// Deviations are of the sample (n - 1), 0 for a single repetition.
struct BenchResult {
  BenchTest test;
  int64_t started = 0;               ///< Unix time, seconds
  std::vector<uint64_t> samples_ns;  ///< [repetitions]  duration of prompt and generation together
  std::vector<double> samples_ts;    ///< [repetitions]  (n_prompt + n_gen) tokens per second
  double avg_ns = 0, stddev_ns = 0;
  double avg_ts = 0, stddev_ts = 0;
  double ttft_ms = 0;  ///< mean time until the first new token's logits; without n_gen that is the prompt
  double ttlt_ms =
      0;  ///< mean time until the last token's logits: n_gen passes after the prompt, as llama-bench counts them
  uint64_t bytes_read = 0;    ///< least that a repetition reads: see pass_bytes
  uint64_t weight_bytes = 0;  ///< weights that a generated token reads: all but the embedding, of which it takes a row
  uint64_t kv_bytes = 0;      ///< keys and values of positions() tokens
  uint64_t peak_rss = 0;      ///< of the process up to the end of the test, bytes, mapped file included
  std::vector<Window> windows;         ///< [repetitions]
  std::vector<Conditions> conditions;  ///< [repetitions], or empty without a monitor
  std::vector<ProfileEntry> profile;   ///< empty unless asked for

  /// Of bytes_read in the mean time.
  double mbu(double bytes_per_second) const {
    return bandwidth_utilization(static_cast<double>(bytes_read), avg_ns * 1e-9, bytes_per_second);
  }
  /// Generated tokens per second between ttft_ms and ttlt_ms; 0 unless there is a prompt and an answer. The papers'
  /// TPS.
  double answer_ts() const;
};

/// The bytes that a forward pass over n_tokens must read at least once: the weights, the rows of the embedding, the
/// keys and values of n_past + n_tokens positions; the output matrix when logits are asked for, and else of the last
/// layer only what makes its keys and values.
uint64_t pass_bytes(const engine::Session& session, size_t n_past, size_t n_tokens, bool logits);

/// The token that every test has at a position: a pseudo-random id that depends on nothing else.
tokenizer::Token bench_token(size_t position, size_t n_vocab);

/// Runs the tests one after another; each repetition starts from n_depth tokens. Fails with kTooLarge, before anything
/// runs, when one needs more positions than the context has; kInvalid for a test without tokens or no repetitions;
/// kCancelled. The session's context is changed.
Expected<std::vector<BenchResult>> bench(engine::Session& session, std::span<const BenchTest> tests,
                                         const BenchOptions& options, Progress& progress);

/// Positions that logits_hash takes.
inline constexpr size_t kHashPositions = 40;

/// A hash of the bits of the logits after a fixed prompt of kHashPositions tokens, part of them read in a batch and
/// part one by one (FNV-1a, 64 bits). Equal from run to run and for any number of threads; another instruction set,
/// batch kernel or cache type gives another one. Fails with kTooLarge when the context is shorter. The session's
/// context is changed.
Expected<uint64_t> logits_hash(engine::Session& session);

}  // namespace shoehorn::eval
