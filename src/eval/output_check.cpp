#include "eval/output_check.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "base/memory.h"
#include "engine/answer_text.h"
#include "engine/generate.h"
#include "eval/chunks.h"
#include "eval/perplexity.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

Expected<PredictionResult> compare(const std::shared_ptr<const engine::Model>& model,
                                   const std::shared_ptr<const engine::Model>& source, const CheckOptions& options,
                                   Progress& progress) {
  const models::Hparams &h = model->hparams(), &source_h = source->hparams();
  if (h.n_vocab != source_h.n_vocab)
    return fail(ErrorCode::kUnsupported, "the source has {} tokens, the result {}", source_h.n_vocab, h.n_vocab);
  const size_t n_ctx = std::min<size_t>({options.n_ctx, h.n_ctx_train, source_h.n_ctx_train});
  if (n_ctx < 4) return fail(ErrorCode::kUnsupported, "a context of {} tokens is too short to measure on", n_ctx);
  if (const auto cut = Chunks::cut(model->tokenizer(), options.text, n_ctx); !cut)
    return fail(ErrorCode::kUnsupported, "{}", cut.error().message);
  const engine::SessionOptions session = {.n_ctx = n_ctx, .n_batch = n_ctx, .n_threads = options.n_threads};
  SHOEHORN_TRY(auto ours, engine::Session::create(model, session));
  SHOEHORN_TRY(auto theirs, engine::Session::create(source, session));
  SHOEHORN_TRY(const auto result, perplexity(ours, &theirs, options.text,
                                             {.n_ctx = n_ctx,
                                              .max_chunks = options.max_chunks,
                                              .name = "the result",
                                              .base_name = "the source"},
                                             progress));
  return PredictionResult(result);
}

}  // namespace

bool repeats_itself(std::span<const Token> tokens) {
  constexpr size_t kLongestPeriod = 4, kLeast = 12;
  const size_t n = std::max(kLeast, tokens.size() / 2);
  if (tokens.size() < n) return false;
  const auto tail = tokens.last(n);
  for (size_t period = 1; period <= kLongestPeriod; ++period) {
    if (std::equal(tail.begin() + static_cast<std::ptrdiff_t>(period), tail.end(), tail.begin())) return true;
  }
  return false;
}

Expected<CheckResult> check_output(std::shared_ptr<const engine::Model> model, std::shared_ptr<const engine::Model> source,
                                   const CheckOptions& options, Progress& progress) {
  CheckResult result;
  SHOEHORN_TRY(result.predictions, compare(model, source, options, progress));
  if (options.n_sentence == 0 || model->file().file_bytes() > available_memory()) return result;
  const tokenizer::Tokenizer& tokenizer = model->tokenizer();
  const auto prompt = tokenizer.encode(options.prompt, {.add_special = true, .parse_special = false});
  const size_t n_ctx = std::min<size_t>(prompt.size() + options.n_sentence, model->hparams().n_ctx_train);
  if (prompt.empty() || prompt.size() >= n_ctx) return result;
  SHOEHORN_TRY(auto session, engine::Session::create(model, {.n_ctx = n_ctx, .n_threads = options.n_threads}));
  engine::Sampler greedy({.temperature = 0});
  SHOEHORN_TRY(const auto generation, engine::generate(session, prompt, greedy, static_cast<int64_t>(options.n_sentence), progress,
                                                       [](Token) { return true; }));
  result.sentence = engine::valid_utf8(tokenizer.decode(generation.ids));  // tokens may end within a character
  result.repeats = repeats_itself(generation.ids);
  return result;
}

}  // namespace shoehorn::eval
