#include "eval/output_check.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/memory.h"
#include "engine/generate.h"
#include "eval/chunks.h"
#include "eval/layer_stream.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

/// Bytes of logits that are held at a time.
constexpr size_t kLogitBytes = size_t{64} << 20;

/// A model and chunks on their way through it.
struct Runner {
  std::unique_ptr<engine::Session> session;
  std::unique_ptr<LayerStream> stream;
};

Expected<Runner> make_runner(std::shared_ptr<const engine::Model> model, size_t n_ctx, size_t n_chunks, int n_threads) {
  const bool fits = model->file().file_bytes() < available_memory();
  SHOEHORN_TRY(auto session, engine::Session::create(std::move(model), {.n_ctx = n_ctx, .n_batch = n_ctx, .n_threads = n_threads}));
  Runner runner{std::make_unique<engine::Session>(std::move(session)), nullptr};
  runner.stream = std::make_unique<LayerStream>(*runner.session, n_chunks, !fits);
  return runner;
}

bool is_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float x) { return std::isfinite(x); });
}

Expected<PredictionResult> compare(const std::shared_ptr<const engine::Model>& model,
                                   const std::shared_ptr<const engine::Model>& source, const CheckOptions& options,
                                   Progress& progress) {
  const models::Hparams &h = model->hparams(), &source_h = source->hparams();
  if (h.n_vocab != source_h.n_vocab)
    return fail(ErrorCode::kUnsupported, "the source has {} tokens, the result {}", source_h.n_vocab, h.n_vocab);
  const size_t n_vocab = h.n_vocab, n_ctx = std::min<size_t>({options.n_ctx, h.n_ctx_train, source_h.n_ctx_train});
  if (n_ctx < 4) return fail(ErrorCode::kUnsupported, "a context of {} tokens is too short to measure on", n_ctx);
  const auto cut = Chunks::cut(source->tokenizer(), options.text, n_ctx);
  if (!cut) return fail(ErrorCode::kUnsupported, "{}", cut.error().message);
  std::vector<std::vector<Token>> chunks;
  for (size_t i = 0; i < std::min(options.max_chunks, cut->size()); ++i) chunks.push_back((*cut)[i]);

  progress.begin("checking", chunks.size() * (h.n_layer + source_h.n_layer));
  const auto step = [&](size_t) -> Status {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    progress.advance(1);
    return {};
  };
  SHOEHORN_TRY(const Runner ours, make_runner(model, n_ctx, chunks.size(), options.n_threads));
  SHOEHORN_RETURN_IF_ERROR(ours.stream->run(chunks, step));
  SHOEHORN_TRY(const Runner theirs, make_runner(source, n_ctx, chunks.size(), options.n_threads));
  SHOEHORN_RETURN_IF_ERROR(theirs.stream->run(chunks, step));

  const size_t at_once = std::clamp<size_t>(kLogitBytes / (n_vocab * sizeof(float)), 1, n_ctx);
  AlignedBuffer<float> our_logits, their_logits;  // [at_once, n_vocab]
  our_logits.reserve(at_once * n_vocab);
  their_logits.reserve(at_once * n_vocab);
  Predictions predictions;
  for (size_t chunk = 0; chunk < chunks.size(); ++chunk) {
    for (size_t position = n_ctx / 2; position + 1 < n_ctx; position += at_once) {
      if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      const size_t n = std::min(at_once, n_ctx - 1 - position);
      ours.session->multiply_output(ours.stream->x(chunk, position), n, our_logits.data());
      theirs.session->multiply_output(theirs.stream->x(chunk, position), n, their_logits.data());
      for (size_t i = 0; i < n; ++i) {
        const std::span<const float> our_row(our_logits.data() + i * n_vocab, n_vocab),
            their_row(their_logits.data() + i * n_vocab, n_vocab);
        if (!predictions.add(our_row, their_row, chunks[chunk][position + i + 1])) {
          return fail(ErrorCode::kInvalid, "the logits of {} are not finite (after token {} of chunk {})",
                      is_finite(their_row) ? "the result" : "the source", position + i, chunk);
        }
      }
    }
  }
  progress.end();
  return predictions.result();
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
  result.sentence = tokenizer.decode(generation.ids);
  result.repeats = repeats_itself(generation.ids);
  return result;
}

}  // namespace shoehorn::eval
