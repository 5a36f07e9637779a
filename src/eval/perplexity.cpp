#include "eval/perplexity.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "eval/chunks.h"

namespace shoehorn::eval {
using tokenizer::Token;

Expected<PerplexityResult> perplexity(engine::Session& session, engine::Session* base, std::string_view text,
                                      const PerplexityOptions& options, Progress& progress) {
  const size_t n_ctx = options.n_ctx, n_vocab = session.n_vocab();
  if (n_ctx < 4) return fail(ErrorCode::kInvalid, "a context of {} tokens is too short for perplexity", n_ctx);
  if (base != nullptr && base->n_vocab() != n_vocab) {
    return fail(ErrorCode::kInvalid, "the base model has {} tokens, this one {}", base->n_vocab(), n_vocab);
  }
  SHOEHORN_TRY(const Chunks chunks, Chunks::cut(session.model().tokenizer(), text, n_ctx));
  size_t n_chunks = chunks.size();
  if (options.max_chunks > 0) n_chunks = std::min(n_chunks, options.max_chunks);

  const size_t first = n_ctx / 2, n_counted = n_ctx - 1 - first;
  Predictions predictions;
  std::vector<double> chunk_nll;
  const auto start = std::chrono::steady_clock::now();
  progress.begin("perplexity", n_chunks);
  for (size_t chunk = 0; chunk < n_chunks; ++chunk) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    const std::vector<Token> ids = chunks[chunk];
    // The last token is only predicted, never read.
    const std::span<const Token> input(ids.data(), n_ctx - 1);
    session.truncate(0);
    SHOEHORN_TRY(const auto logits, session.eval(input, n_counted));
    std::span<const float> base_logits;
    if (base != nullptr) {
      base->truncate(0);
      SHOEHORN_TRY(base_logits, base->eval(input, n_counted));
    }
    const double nll_before = predictions.nll();
    for (size_t i = 0; i < n_counted; ++i) {
      const auto row = logits.subspan(i * n_vocab, n_vocab);
      const auto base_row = base == nullptr ? std::span<const float>() : base_logits.subspan(i * n_vocab, n_vocab);
      if (!predictions.add(row, base_row, ids[first + i + 1])) {
        return fail(ErrorCode::kInvalid, "the logits after token {} of chunk {} are not finite", first + i, chunk);
      }
    }
    chunk_nll.push_back(predictions.nll() - nll_before);
    progress.advance(1);
  }
  progress.end();

  PerplexityResult result;
  static_cast<PredictionResult&>(result) = predictions.result();
  result.chunks = n_chunks;
  result.chunk_nll = std::move(chunk_nll);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.tokens_per_second = static_cast<double>(n_chunks * (n_ctx - 1)) / result.seconds;
  return result;
}

}  // namespace shoehorn::eval
