#include "eval/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <vector>

#include "eval/chunks.h"
#include "eval/kept_states.h"
#include "eval/layer_stream.h"

namespace shoehorn::eval {
namespace {
using tokenizer::Token;

/// Bytes of logits that are held at a time, of each model.
constexpr size_t kLogitBytes = size_t{64} << 20;

bool is_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float x) { return std::isfinite(x); });
}

uint64_t output_bytes(const engine::Session& session) {
  const engine::Weight& output = session.model().output();
  return output.n_rows * output.row_bytes;
}

/// Chunks on their way through a model, and through the one that it is compared with.
class Measurement {
 public:
  Measurement(engine::Session& session, engine::Session* base, const Chunks& chunks, const PerplexityOptions& options,
              Progress& progress)
      : session_(session), base_(base), chunks_(chunks), options_(options), progress_(progress) {
    n_chunks_ = options.max_chunks > 0 ? std::min(options.max_chunks, chunks.size()) : chunks.size();
    for (size_t i = 0; i < n_chunks_; ++i) {
      const std::vector<Token> chunk = chunks[i];
      tokens_.insert(tokens_.end(), chunk.begin(), chunk.end());
    }
  }

  Status run() {
    session_.truncate(0);
    if (base_ != nullptr) base_->truncate(0);
    const StatesOf of = {.session = base_ != nullptr ? base_ : &session_,
                         .tokens = tokens_,
                         .n_chunks = n_chunks_,
                         .first = first(),
                         .n_per_chunk = n_counted()};
    if (base_ != nullptr && !options_.states.empty()) kept_ = KeptStates::open(options_.states, of);
    const bool run_base = base_ != nullptr && !kept_, keep = !kept_ && !options_.states.empty();
    SHOEHORN_TRY(const StreamPlan plan, make_plan(run_base));
    LayerStream ours(session_, options_.n_ctx, plan.chunks_per_pass, plan.layer_by_layer);
    std::optional<LayerStream> theirs;
    if (run_base) theirs.emplace(*base_, options_.n_ctx, plan.chunks_per_pass, plan.layer_by_layer);
    StatesWriter writer;
    if (keep) SHOEHORN_RETURN_IF_ERROR(writer.begin(options_.states, of));
    if (plan.layer_by_layer) {
      progress_.note(fmt::format("reading the model a layer at a time for {} chunks together", plan.chunks_per_pass));
    }

    logits_.reserve(at_once() * session_.n_vocab());
    if (base_ != nullptr) base_logits_.reserve(at_once() * session_.n_vocab());
    const uint64_t steps = session_.model().hparams().n_layer + (run_base ? base_->model().hparams().n_layer : 0);
    progress_.begin("perplexity", n_chunks_ * steps);
    for (size_t begin = 0; begin < n_chunks_; begin += plan.chunks_per_pass) {
      std::vector<std::vector<Token>> pass;
      for (size_t i = begin; i < std::min(n_chunks_, begin + plan.chunks_per_pass); ++i) pass.push_back(chunks_[i]);
      SHOEHORN_RETURN_IF_ERROR(take(ours, pass));
      if (theirs) SHOEHORN_RETURN_IF_ERROR(take(*theirs, pass));
      for (size_t i = 0; i < pass.size(); ++i) {
        const float* base = kept_ ? kept_->chunk(begin + i) : theirs ? theirs->x(i, first()) : nullptr;
        if (keep) SHOEHORN_RETURN_IF_ERROR(writer.append(base != nullptr ? base : ours.x(i, first())));
        SHOEHORN_RETURN_IF_ERROR(score(begin + i, pass[i], ours.x(i, first()), base));
      }
    }
    progress_.end();
    return keep ? writer.commit() : Status();
  }

  PerplexityResult result() const {
    PerplexityResult out;
    static_cast<PredictionResult&>(out) = predictions_.result();
    out.chunks = n_chunks_;
    out.chunk_nll = chunk_nll_;
    return out;
  }

 private:
  size_t first() const { return options_.n_ctx / 2; }
  /// The last token is only predicted, and predicts nothing.
  size_t n_counted() const { return options_.n_ctx - 1 - first(); }
  size_t at_once() const {
    const size_t most = std::min({n_counted(), session_.n_batch(), base_ != nullptr ? base_->n_batch() : n_counted()});
    return std::clamp<size_t>(kLogitBytes / (session_.n_vocab() * sizeof(float)), 1, most);
  }

  Expected<StreamPlan> make_plan(bool run_base) const {
    StreamNeed need = {.what = "perplexity",
                       .sessions = {&session_},
                       .chunk_size = options_.n_ctx,
                       .n_chunks = n_chunks_,
                       .extra_bytes = at_once() * session_.n_vocab() * sizeof(float) + output_bytes(session_),
                       .ram = options_.ram};
    if (run_base) need.sessions.push_back(base_);
    if (base_ != nullptr) need.extra_bytes += at_once() * session_.n_vocab() * sizeof(float) + output_bytes(*base_);
    return plan_stream(need);
  }

  Status take(LayerStream& stream, const std::vector<std::vector<Token>>& pass) {
    return stream.run(pass, first(), [&](size_t) -> Status {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      progress_.advance(1);
      return {};
    });
  }

  /// Counts the predictions of a chunk whose last activations [n_counted, n_embd] are here.
  Status score(size_t chunk, const std::vector<Token>& ids, const float* x, const float* base_x) {
    const size_t n_vocab = session_.n_vocab();
    const double nll_before = predictions_.nll();
    for (size_t begin = 0; begin < n_counted(); begin += at_once()) {
      if (progress_.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      const size_t n = std::min(at_once(), n_counted() - begin);
      session_.multiply_output(x + begin * session_.model().hparams().n_embd, n, logits_.data());
      if (base_ != nullptr)
        base_->multiply_output(base_x + begin * base_->model().hparams().n_embd, n, base_logits_.data());
      for (size_t i = 0; i < n; ++i) {
        const std::span<const float> row(logits_.data() + i * n_vocab, n_vocab);
        const std::span<const float> base_row =
            base_ == nullptr ? std::span<const float>()
                             : std::span<const float>(base_logits_.data() + i * n_vocab, n_vocab);
        const size_t position = first() + begin + i;
        if (!predictions_.add(row, base_row, ids[position + 1])) {
          return fail(ErrorCode::kInvalid, "the logits of {} are not finite (after token {} of chunk {})",
                      is_finite(row) ? options_.base_name : options_.name, position, chunk);
        }
      }
    }
    chunk_nll_.push_back(predictions_.nll() - nll_before);
    return {};
  }

  engine::Session& session_;
  engine::Session* base_;
  const Chunks& chunks_;
  const PerplexityOptions& options_;
  Progress& progress_;
  size_t n_chunks_ = 0;
  std::vector<Token> tokens_;  // of the chunks
  std::optional<KeptStates> kept_;
  AlignedBuffer<float> logits_, base_logits_;  // [at_once, n_vocab]
  Predictions predictions_;
  std::vector<double> chunk_nll_;
};

}  // namespace

Expected<PerplexityResult> perplexity(engine::Session& session, engine::Session* base, std::string_view text,
                                      const PerplexityOptions& options, Progress& progress) {
  const size_t n_ctx = options.n_ctx;
  if (n_ctx < 4) return fail(ErrorCode::kInvalid, "a context of {} tokens is too short for perplexity", n_ctx);
  if (base != nullptr && base->n_vocab() != session.n_vocab()) {
    return fail(ErrorCode::kInvalid, "the base model has {} tokens, this one {}", base->n_vocab(), session.n_vocab());
  }
  SHOEHORN_TRY(const Chunks chunks, Chunks::cut(session.model().tokenizer(), text, n_ctx));
  const auto start = std::chrono::steady_clock::now();
  Measurement measurement(session, base, chunks, options, progress);
  SHOEHORN_RETURN_IF_ERROR(measurement.run());
  PerplexityResult result = measurement.result();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.tokens_per_second = static_cast<double>(result.chunks * n_ctx) / result.seconds;
  return result;
}

}  // namespace shoehorn::eval
