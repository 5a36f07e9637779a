// The loop that turns a prompt into new tokens.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "base/progress.h"
#include "engine/sampler.h"
#include "engine/session.h"

namespace shoehorn::engine {

/// kStuck: the vocabulary has no token that the grammar could go on with.
enum class StopReason { kEndOfGeneration, kLength, kContextFull, kStopped, kStuck };
const char* stop_reason_name(StopReason reason);

struct Generation {
  std::vector<tokenizer::Token> ids;   ///< drawn tokens, without the one that ended the generation
  std::vector<float> top2_gaps;        ///< per drawn token: logit of the best minus that of the second best
  StopReason stop = StopReason::kLength;
  size_t n_prompt = 0;                 ///< prompt tokens that were evaluated
  double prompt_seconds = 0;           ///< until the first logits
  double decode_seconds = 0;           ///< from there to the end

  double prompt_tokens_per_second() const { return static_cast<double>(n_prompt) / prompt_seconds; }
  /// Of the tokens after the first, which each cost one forward pass.
  double tokens_per_second() const;
};

/// Evaluates `prompt` (not empty) after what the session holds, reporting to `progress`, then draws up to max_tokens (< 0: no
/// limit) until a token ends the generation or the context is full. on_token is called for each drawn token and stops the
/// generation by returning false. After the call the session holds the prompt and all drawn tokens but the last. Fails with
/// kCancelled when progress says so while the prompt is read.
Expected<Generation> generate(Session& session, std::span<const tokenizer::Token> prompt, Sampler& sampler, int64_t max_tokens,
                              Progress& progress, const std::function<bool(tokenizer::Token)>& on_token);

/// One turn of that loop: adds a token that was drawn, with its top2_gap, to `out` and tells the sampler and on_token (may be empty).
/// True when generation goes on, with the token to be evaluated; else out.stop says why not. `context_full`: it could not be.
bool take_token(const tokenizer::Tokenizer& tokenizer, tokenizer::Token token, float gap, Sampler& sampler, int64_t max_tokens,
                bool context_full, const std::function<bool(tokenizer::Token)>& on_token, Generation& out);

}  // namespace shoehorn::engine
