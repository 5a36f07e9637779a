#include "engine/session.h"

#include <algorithm>

#include "hadamard/matrix.h"

namespace shoehorn::engine {
namespace {

constexpr size_t kDefaultContext = 4096;

}  // namespace

size_t context_of(const SessionOptions& options, const models::Hparams& hparams) {
  return options.n_ctx != 0 ? options.n_ctx : std::min<size_t>(hparams.n_ctx_train, kDefaultContext);
}

CacheTypes cache_of(const SessionOptions& options, const models::Hparams& hparams) {
  const auto rotated = [&](quant::Type type) {
    if (options.cache_rotation != CacheRotation::kWhereQuantized) return options.cache_rotation == CacheRotation::kAlways;
    return quant::format(type).quantized && hadamard::plan(hparams.head_dim).has_value();
  };
  return {options.key_type, options.value_type, rotated(options.key_type), rotated(options.value_type)};
}

Expected<Session> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  const size_t n_ctx = context_of(options, model->hparams());
  SHOEHORN_TRY(auto cache, KvCache::create(model->hparams(), n_ctx, cache_of(options, model->hparams())));
  const int n_threads = options.n_threads > 0 ? options.n_threads : default_thread_count();
  const size_t n_batch = std::min(std::max<size_t>(1, options.n_batch), n_ctx);
  return Session(std::make_unique<Forward>(std::move(model), cache.types(), n_ctx, n_batch, n_threads, options.affinity),
                 std::move(cache));
}

Expected<std::span<const float>> Session::eval(std::span<const tokenizer::Token> tokens, size_t n_logits) {
  if (tokens.size() > n_ctx() - n_past_) {
    return fail(ErrorCode::kTooLarge, "the context of {} tokens is full: {} are used, {} more do not fit", n_ctx(), n_past_,
                tokens.size());
  }
  SHOEHORN_RETURN_IF_ERROR(forward_->check(tokens));
  n_logits = std::min(n_logits, tokens.size());
  logits_.reserve(n_logits * n_vocab());
  const size_t first_with_logits = tokens.size() - n_logits;
  float* logits = logits_.data();
  for (size_t begin = 0; begin < tokens.size(); begin += n_batch()) {
    const auto batch = tokens.subspan(begin, std::min(n_batch(), tokens.size() - begin));
    const size_t end = begin + batch.size();
    const size_t wanted = end > first_with_logits ? std::min(batch.size(), end - first_with_logits) : 0;
    const Segment segment = {.cache = &cache_, .n_past = n_past_, .n = batch.size(), .n_out = wanted, .adapters = &adapters_};
    forward_->run(batch, {&segment, 1}, logits);
    logits += wanted * n_vocab();
    n_past_ += batch.size();
  }
  return std::span<const float>(logits_.data(), n_logits * n_vocab());
}

void Session::run_layer(size_t layer, const Stream& stream) {
  const Segment segment = {.cache = &cache_, .n_past = stream.n_past, .n = stream.n, .n_out = stream.n_out, .adapters = &adapters_};
  forward_->run_layer(layer, stream.x, {&segment, 1});
}

}  // namespace shoehorn::engine
