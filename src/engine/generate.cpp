#include "engine/generate.h"

#include <algorithm>
#include <chrono>

namespace shoehorn::engine {

const char* stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::kEndOfGeneration: return "eog";
    case StopReason::kLength: return "length";
    case StopReason::kContextFull: return "context";
    case StopReason::kStopped: return "stopped";
    case StopReason::kStuck: return "stuck";
  }
  return "";
}

namespace {

/// The logits after the last token.
Expected<std::span<const float>> read_prompt(Session& session, std::span<const tokenizer::Token> prompt, Progress& progress) {
  if (prompt.size() > session.n_ctx() - session.n_past()) return session.eval(prompt);  // says why it does not fit
  progress.begin("reading the prompt", prompt.size());
  std::span<const float> logits;
  for (size_t begin = 0; begin < prompt.size(); begin += session.n_batch()) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    const auto batch = prompt.subspan(begin, std::min(session.n_batch(), prompt.size() - begin));
    SHOEHORN_TRY(logits, session.eval(batch, begin + batch.size() == prompt.size() ? 1 : 0));
    progress.advance(batch.size());
  }
  progress.end();
  return logits;
}

}  // namespace

double Generation::tokens_per_second() const {
  return ids.size() > 1 && decode_seconds > 0 ? static_cast<double>(ids.size() - 1) / decode_seconds : 0;
}

bool take_token(const tokenizer::Tokenizer& tokenizer, tokenizer::Token token, float gap, Sampler& sampler, int64_t max_tokens,
                bool context_full, const std::function<bool(tokenizer::Token)>& on_token, Generation& out) {
  sampler.accept(token);
  if (tokenizer.is_eog(token)) {
    out.stop = sampler.grammar_is_complete() ? StopReason::kEndOfGeneration : StopReason::kStuck;
    return false;
  }
  out.ids.push_back(token);
  out.top2_gaps.push_back(gap);
  if (on_token && !on_token(token)) {
    out.stop = StopReason::kStopped;
    return false;
  }
  if (sampler.grammar_has_ended()) {
    out.stop = StopReason::kEndOfGeneration;
    return false;
  }
  if (max_tokens >= 0 && static_cast<int64_t>(out.ids.size()) >= max_tokens) return false;  // kLength
  if (context_full) {
    out.stop = StopReason::kContextFull;
    return false;
  }
  return true;
}

Expected<Generation> generate(Session& session, std::span<const tokenizer::Token> prompt, Sampler& sampler, int64_t max_tokens,
                              Progress& progress, const std::function<bool(tokenizer::Token)>& on_token) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); };
  if (prompt.empty()) return fail(ErrorCode::kInvalid, "the prompt is empty");

  Generation out;
  out.n_prompt = prompt.size();
  const auto start = Clock::now();
  SHOEHORN_TRY(auto logits, read_prompt(session, prompt, progress));
  for (const tokenizer::Token token : prompt) sampler.accept(token);
  sampler.begin_answer();
  out.prompt_seconds = seconds_since(start);

  const auto first = Clock::now();
  while (max_tokens != 0) {
    const tokenizer::Token token = sampler.sample(logits);
    const bool full = session.n_past() >= session.n_ctx();
    if (!take_token(session.model().tokenizer(), token, top2_gap(logits), sampler, max_tokens, full, on_token, out)) break;
    SHOEHORN_TRY(logits, session.eval({&token, 1}));
  }
  out.decode_seconds = seconds_since(first);
  return out;
}

}  // namespace shoehorn::engine
