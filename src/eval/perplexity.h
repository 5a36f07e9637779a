// Perplexity and KL divergence over a text, by llama.cpp's protocol.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "engine/session.h"
#include "eval/predictions.h"

namespace shoehorn::eval {

struct PerplexityOptions {
  size_t n_ctx = 512;
  size_t max_chunks = 0;   ///< 0: all
  /// Bytes that the process may be resident in, mapped files included; 0: what is available. Models that do not fit are
  /// read a layer at a time, for as many chunks together as there is room for; the result is the same.
  uint64_t ram = 0;
  /// A file that keeps the base's last activations on these chunks: taken from there, or put there. Without a base the
  /// model's own are put there, to be a base's later. "": not kept.
  std::string states = {};
  const char *name = "the model", *base_name = "the base";  ///< in errors
};

struct PerplexityResult : PredictionResult {
  size_t chunks = 0;
  std::vector<double> chunk_nll;  ///< [chunks] negative log-likelihoods summed over the counted predictions, in nats
  double seconds = 0;
  double tokens_per_second = 0;  ///< tokens of the model evaluated (not only counted) per second
};

/// The text is tokenized with BOS as the model says and without special-token parsing, cut into whole non-overlapping chunks of
/// n_ctx, the first token of each replaced by BOS when the model adds it, and the predictions from logits n_ctx/2 .. n_ctx-2 counted.
/// `base` may be null; it must have the same vocabulary. Sessions need n_ctx positions; what they had in them is forgotten.
/// Fails when the text has less than two chunks' worth of tokens or a logit is not finite; with kTooLarge and the numbers when not
/// even one layer and one chunk fit into `ram`; with kCancelled.
Expected<PerplexityResult> perplexity(engine::Session& session, engine::Session* base, std::string_view text,
                                      const PerplexityOptions& options, Progress& progress);

}  // namespace shoehorn::eval
