// The gate that a model passes before it gets its name: does it compute, how far is it from where it came from, does it talk?
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/progress.h"
#include "engine/session.h"
#include "eval/predictions.h"

namespace shoehorn::eval {

struct CheckOptions {
  std::string_view text;                   ///< to measure on; at least two chunks
  size_t n_ctx = 512;                      ///< tokens per chunk, less when a model was trained on less
  size_t max_chunks = 4;
  std::string prompt = "The quick brown fox";
  size_t n_sentence = 24;                  ///< tokens to generate greedily; 0: none
  int n_threads = 0;                       ///< 0: default_thread_count()
};

struct CheckResult {
  PredictionResult predictions;  ///< of the model, against its source
  std::string sentence;          ///< what follows the prompt; "" when there was no room to generate (see check_output)
  bool repeats = false;          ///< the sentence ends in one thing said over and over
};

/// Measures `model` against `source` by the protocol of perplexity(), the first chunks of a text, a layer at a time so that neither
/// has to fit in memory; and has `model` continue the prompt greedily, unless its file is larger than the memory, where every token
/// would read it from the disk again. Fails with kInvalid when a logit is not finite (naming whose); with kUnsupported when there is
/// nothing to measure (vocabularies that differ, a text of less than two chunks); with kCancelled.
Expected<CheckResult> check_output(std::shared_ptr<const engine::Model> model, std::shared_ptr<const engine::Model> source,
                                   const CheckOptions& options, Progress& progress);

/// True when the last tokens, at least twelve and half of all, are one to four tokens over and over.
bool repeats_itself(std::span<const tokenizer::Token> tokens);

}  // namespace shoehorn::eval
