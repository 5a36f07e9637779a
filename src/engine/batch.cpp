#include "engine/batch.h"

#include <algorithm>
#include <cstring>

#include "base/memory.h"

namespace shoehorn::engine {

Expected<Batch> Batch::create(std::shared_ptr<const Model> model, const SessionOptions& options, size_t n_sequences) {
  if (n_sequences == 0) return fail(ErrorCode::kInvalid, "a batch needs a sequence");
  const models::Hparams& h = model->hparams();
  const size_t n_ctx = context_of(options, h);
  const CacheTypes types = cache_of(options, h);
  const uint64_t each = KvCache::bytes(h, n_ctx, types), available = available_memory();
  if (each > 0 && each * n_sequences > available) {
    return fail(ErrorCode::kTooLarge,
                "{} contexts of {} tokens need {} for keys and values, {} of memory are available; {} of them fit "
                "(-np), or use a smaller -c",
                n_sequences, n_ctx, format_bytes(each * n_sequences), format_bytes(available), available / each);
  }
  std::vector<KvCache> caches;
  for (size_t i = 0; i < n_sequences; ++i) {
    SHOEHORN_TRY(auto cache, KvCache::create(h, n_ctx, types));
    caches.push_back(std::move(cache));
  }
  const int n_threads = options.n_threads > 0 ? options.n_threads : default_thread_count();
  const size_t n_batch = std::min(std::max<size_t>(1, options.n_batch), n_ctx);
  return Batch(std::make_unique<Forward>(std::move(model), types, n_ctx, std::max(n_batch, n_sequences), n_threads,
                                         options.affinity),
               std::move(caches), n_batch);
}

Expected<std::span<const float>> Batch::eval(std::span<const BatchInput> inputs) {
  return pass(inputs, &Forward::run, n_vocab());
}

Expected<std::span<const float>> Batch::eval_states(std::span<const BatchInput> inputs) {
  return pass(inputs, &Forward::run_states, model().hparams().n_embd);
}

Expected<std::span<const float>> Batch::pass(std::span<const BatchInput> inputs, Run run, size_t n_columns) {
  std::vector<tokenizer::Token> tokens;
  std::vector<Segment> segments;
  std::vector<bool> taken(n_sequences());
  size_t n_logits = 0;
  for (const BatchInput& input : inputs) {
    if (input.sequence >= n_sequences() || taken[input.sequence] || input.tokens.empty()) {
      return fail(ErrorCode::kInvalid, "sequence {} is not one of {}, is named twice, or gets no tokens",
                  input.sequence, n_sequences());
    }
    taken[input.sequence] = true;
    const size_t n_past = n_past_[input.sequence], n = input.tokens.size();
    if (n > n_ctx() - n_past) {
      return fail(ErrorCode::kTooLarge, "the context of {} tokens is full: {} are used, {} more do not fit", n_ctx(),
                  n_past, n);
    }
    SHOEHORN_RETURN_IF_ERROR(forward_->check(input.tokens));
    tokens.insert(tokens.end(), input.tokens.begin(), input.tokens.end());
    segments.push_back(
        {.cache = &caches_[input.sequence], .n_past = n_past, .n = n, .n_out = std::min(input.n_logits, n), .adapters = input.adapters});
    n_logits += segments.back().n_out;
  }
  if (tokens.size() > max_tokens()) {
    return fail(ErrorCode::kInvalid, "a pass of {} tokens, at most {} were prepared for", tokens.size(), max_tokens());
  }
  logits_.reserve(n_logits * n_columns);
  ((*forward_).*run)(tokens, segments, logits_.data());
  for (const BatchInput& input : inputs) n_past_[input.sequence] += input.tokens.size();
  return std::span<const float>(logits_.data(), n_logits * n_columns);
}

void Batch::copy_prefix(size_t from, size_t to, size_t n) {
  n_past_[to] = n;
  if (from == to) return;
  const models::Hparams& h = model().hparams();
  for (size_t layer = 0; layer < h.n_layer; ++layer) {
    const KvCache::Layer &source = caches_[from].layer(layer), &target = caches_[to].layer(layer);
    for (size_t head = 0; head < h.layers[layer].n_head_kv; ++head) {
      std::memcpy(target.keys + head * target.key_head_bytes, source.keys + head * source.key_head_bytes,
                  n * caches_[from].key_bytes());
      std::memcpy(target.values + head * target.value_head_bytes, source.values + head * source.value_head_bytes,
                  n * caches_[from].value_bytes());
    }
  }
}

}  // namespace shoehorn::engine
