#include "eval/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "eval/chunks.h"
#include "eval/log_softmax.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

/// Running mean and standard error.
struct Mean {
  double sum = 0, sum_squared = 0;
  uint64_t n = 0;
  void add(double x) {
    sum += x;
    sum_squared += x * x;
    ++n;
  }
  double mean() const { return n == 0 ? 0 : sum / static_cast<double>(n); }
  double error() const {
    if (n < 2) return 0;
    const double variance = sum_squared / static_cast<double>(n) - mean() * mean();
    return std::sqrt(std::max(0.0, variance) / static_cast<double>(n - 1));
  }
};

}  // namespace

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
  Mean nll, base_nll, kl;
  std::vector<double> kls, chunk_nll;
  uint64_t same_top = 0;
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
    const double nll_before = nll.sum;
    for (size_t i = 0; i < n_counted; ++i) {
      const auto row = logits.subspan(i * n_vocab, n_vocab);
      const auto target = static_cast<size_t>(ids[first + i + 1]);
      const double norm = log_sum_exp(row);
      if (!std::isfinite(norm)) {
        return fail(ErrorCode::kInvalid, "the logits after token {} of chunk {} are not finite", first + i, chunk);
      }
      nll.add(norm - static_cast<double>(row[target]));
      if (base == nullptr) continue;
      const auto base_row = base_logits.subspan(i * n_vocab, n_vocab);
      const double base_norm = log_sum_exp(base_row);
      base_nll.add(base_norm - static_cast<double>(base_row[target]));
      const double divergence = kl_divergence(base_row, base_norm, row, norm);
      kl.add(divergence);
      kls.push_back(divergence);
      same_top += engine::argmax(row) == engine::argmax(base_row);
    }
    chunk_nll.push_back(nll.sum - nll_before);
    progress.advance(1);
  }
  progress.end();

  PerplexityResult result;
  result.ppl = std::exp(nll.mean());
  result.ppl_err = nll.error() * result.ppl;
  result.tokens = nll.n;
  result.chunks = n_chunks;
  result.chunk_nll = std::move(chunk_nll);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.tokens_per_second = static_cast<double>(n_chunks * (n_ctx - 1)) / result.seconds;
  if (base != nullptr) {
    result.has_base = true;
    result.base_ppl = std::exp(base_nll.mean());
    result.kld_mean = kl.mean();
    result.kld_err = kl.error();
    std::sort(kls.begin(), kls.end());
    result.kld_p99 = kls[static_cast<size_t>(0.99 * static_cast<double>(kls.size() - 1))];
    result.kld_max = kls.back();
    result.top1 = static_cast<double>(same_top) / static_cast<double>(kls.size());
  }
  return result;
}

}  // namespace shoehorn::eval
