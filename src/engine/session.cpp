#include "engine/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/memory.h"
#include "engine/ops.h"

namespace shoehorn::engine {
namespace {

using models::Role;

constexpr size_t kDefaultContext = 4096;
constexpr size_t kRowsPerTask = 64;  // a multiple of the widest panel, small enough to share out

size_t largest_group(const models::Hparams& h) {
  size_t largest = 1;
  for (const models::LayerShape& layer : h.layers) {
    if (layer.n_head > 0) largest = std::max<size_t>(largest, layer.n_head / layer.n_head_kv);
  }
  return largest;
}

size_t max_n_head_kv(const models::Hparams& h) {
  size_t n = 0;
  for (const models::LayerShape& layer : h.layers) n = std::max<size_t>(n, layer.n_head_kv);
  return n;
}

}  // namespace

Expected<Session> Session::create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  const models::Hparams& h = model->hparams();
  const size_t n_ctx = options.n_ctx != 0 ? options.n_ctx : std::min<size_t>(h.n_ctx_train, kDefaultContext);
  SHOEHORN_TRY(auto cache, KvCache::create(h, n_ctx, options.key_type, options.value_type));
  const int n_threads = options.n_threads > 0 ? options.n_threads : default_thread_count();
  return Session(std::move(model), std::move(cache), std::min(std::max<size_t>(1, options.n_batch), n_ctx), n_threads,
                 options.affinity);
}

Session::Session(std::shared_ptr<const Model> model, KvCache cache, size_t n_batch, int n_threads, Affinity affinity)
    : model_(std::move(model)),
      cache_(std::move(cache)),
      pool_(std::make_unique<ThreadPool>(n_threads, std::move(affinity))),
      rope_(model_->hparams(), model_->architecture().rope,
            model_->global()[Role::kRopeFreqs] ? model_->global()[Role::kRopeFreqs].floats() : nullptr),
      key_kernels_(&kernels::kernels_for(model_->kernels(), cache_.key_format().type)),
      value_kernels_(&kernels::kernels_for(model_->kernels(), cache_.value_format().type)),
      n_batch_(n_batch) {
  const models::Hparams& h = model_->hparams();
  const size_t max_q = size_t{h.max_n_head()} * h.head_dim, max_kv = max_n_head_kv(h) * h.head_dim;
  x_.resize(n_batch * h.n_embd);
  normed_.resize(n_batch * h.n_embd);
  projected_.resize(n_batch * h.n_embd);
  q_.resize(n_batch * max_q);
  attended_.resize(n_batch * max_q);
  k_.resize(n_batch * max_kv);
  v_.resize(n_batch * max_kv);
  gate_.resize(n_batch * h.max_n_ff());
  up_.resize(n_batch * h.max_n_ff());
  rotations_.resize(n_batch * rope_.n_rot());
  scores_.resize(static_cast<size_t>(n_threads) * largest_group(h) * cache_.n_ctx());
}

Expected<std::span<const float>> Session::eval(std::span<const tokenizer::Token> tokens, size_t n_logits) {
  if (tokens.size() > n_ctx() - n_past_) {
    return fail(ErrorCode::kTooLarge, "the context of {} tokens is full: {} are used, {} more do not fit", n_ctx(), n_past_,
                tokens.size());
  }
  for (const tokenizer::Token token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= n_vocab()) {
      return fail(ErrorCode::kInvalid, "token id {} is outside the vocabulary of {}", token, n_vocab());
    }
  }
  n_logits = std::min(n_logits, tokens.size());
  logits_.resize(n_logits * n_vocab());
  const size_t first_with_logits = tokens.size() - n_logits;
  float* logits = logits_.data();
  for (size_t begin = 0; begin < tokens.size(); begin += n_batch_) {
    const auto batch = tokens.subspan(begin, std::min(n_batch_, tokens.size() - begin));
    const size_t end = begin + batch.size();
    const size_t wanted = end > first_with_logits ? std::min(batch.size(), end - first_with_logits) : 0;
    forward(batch, wanted, logits);
    logits += wanted * n_vocab();
    n_past_ += batch.size();
  }
  return std::span<const float>(logits_);
}

void Session::forward(std::span<const tokenizer::Token> tokens, size_t n_logits, float* logits) {
  const models::Hparams& h = model_->hparams();
  const size_t n = tokens.size(), n_embd = h.n_embd;
  const Weight& embedding = model_->global()[Role::kTokenEmbd];
  const quant::Format& embedding_format = quant::format(embedding.type);
  for (size_t t = 0; t < n; ++t) {
    embedding_format.decode(embedding.data + static_cast<size_t>(tokens[t]) * embedding.row_bytes, x_.data() + t * n_embd, n_embd);
  }
  rope_.table(n_past_, n, rotations_.data());
  for (size_t layer = 0; layer < h.n_layer; ++layer) {
    if (h.layers[layer].n_head > 0) attention_block(layer, n);
    if (h.layers[layer].n_ff > 0) mlp_block(layer, n);
  }
  if (n_logits == 0) return;
  norm_rows(model_->global()[Role::kOutputNorm], x_.data() + (n - n_logits) * n_embd, n_logits, normed_.data());
  matmul(model_->output(), {}, normed_.data(), n_embd, n_logits, logits, h.n_vocab);
}

void Session::attention_block(size_t layer, size_t n) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const WeightSet& w = model_->layer(layer);
  const size_t n_embd = h.n_embd, n_q = size_t{shape.n_head} * h.head_dim, n_kv = size_t{shape.n_head_kv} * h.head_dim;

  norm_rows(w[Role::kAttnNorm], x_.data(), n, normed_.data());
  matmul(w[Role::kAttnQ], w[Role::kAttnQBias], normed_.data(), n_embd, n, q_.data(), n_q);
  matmul(w[Role::kAttnK], w[Role::kAttnKBias], normed_.data(), n_embd, n, k_.data(), n_kv);
  matmul(w[Role::kAttnV], w[Role::kAttnVBias], normed_.data(), n_embd, n, v_.data(), n_kv);

  const Weight& q_norm = w[Role::kAttnQNorm];
  const Weight& k_norm = w[Role::kAttnKNorm];
  const KvCache::Layer& cache = cache_.layer(layer);
  pool_->parallel_for(n, 8, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) {
      const float* rotation = rotations_.data() + t * rope_.n_rot();
      const auto prepare = [&](float* heads, size_t n_heads, const Weight& norm) {
        for (size_t i = 0; i < n_heads; ++i) {
          float* head = heads + i * h.head_dim;
          if (norm) rms_norm(head, norm.floats(), h.head_dim, h.rms_eps, head);
          rope_.rotate(head, rotation);
        }
      };
      prepare(q_.data() + t * n_q, shape.n_head, q_norm);
      prepare(k_.data() + t * n_kv, shape.n_head_kv, k_norm);
      const size_t position = n_past_ + t;
      cache_.key_format().encode(k_.data() + t * n_kv, nullptr, cache.keys + position * cache.key_row_bytes, n_kv);
      cache_.value_format().encode(v_.data() + t * n_kv, nullptr, cache.values + position * cache.value_row_bytes, n_kv);
    }
  });

  attend(layer, n);
  matmul(w[Role::kAttnOutput], w[Role::kAttnOutputBias], attended_.data(), n_q, n, projected_.data(), n_embd);
  add(x_.data(), projected_.data(), n * n_embd);
}

/// attended_[t, head] = softmax(q . K / sqrt(head_dim)) V over the positions up to t. One task is a token and a KV head: the
/// query heads that share the KV head read each key and value once.
void Session::attend(size_t layer, size_t n) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const KvCache::Layer& cache = cache_.layer(layer);
  const size_t head_dim = h.head_dim, group = shape.n_head / shape.n_head_kv, n_q = shape.n_head * head_dim;
  const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
  const size_t scores_per_thread = scores_.size() / static_cast<size_t>(pool_->size());

  pool_->parallel_for(n * shape.n_head_kv, 1, [&](size_t begin, size_t end, int thread) {
    float* scores = scores_.data() + static_cast<size_t>(thread) * scores_per_thread;  // [group, n_ctx]
    for (size_t task = begin; task < end; ++task) {
      const size_t t = task / shape.n_head_kv, kv_head = task % shape.n_head_kv;
      const size_t n_positions = n_past_ + t + 1;
      const size_t first_element = t * n_q + kv_head * group * head_dim;
      key_kernels_->matmul({.rows = cache.keys + kv_head * cache.key_head_bytes,
                            .row_stride_bytes = cache.key_row_bytes,
                            .n_rows = n_positions,
                            .n_cols = head_dim,
                            .x = q_.data() + first_element,
                            .x_stride = head_dim,
                            .n_tokens = group,
                            .y = scores,
                            .y_stride = n_positions});
      for (size_t g = 0; g < group; ++g) softmax(scores + g * n_positions, n_positions, scale);
      float* out = attended_.data() + first_element;
      std::memset(out, 0, group * head_dim * sizeof(float));
      value_kernels_->weighted_sum({.rows = cache.values + kv_head * cache.value_head_bytes,
                                    .row_stride_bytes = cache.value_row_bytes,
                                    .n_rows = n_positions,
                                    .n_cols = head_dim,
                                    .weights = scores,
                                    .weights_stride = n_positions,
                                    .n_tokens = group,
                                    .y = out,
                                    .y_stride = head_dim});
    }
  });
}

void Session::mlp_block(size_t layer, size_t n) {
  const models::Hparams& h = model_->hparams();
  const WeightSet& w = model_->layer(layer);
  const size_t n_embd = h.n_embd, n_ff = h.layers[layer].n_ff;
  norm_rows(w[Role::kFfnNorm], x_.data(), n, normed_.data());
  matmul(w[Role::kFfnGate], w[Role::kFfnGateBias], normed_.data(), n_embd, n, gate_.data(), n_ff);
  matmul(w[Role::kFfnUp], w[Role::kFfnUpBias], normed_.data(), n_embd, n, up_.data(), n_ff);
  pool_->parallel_for(n * n_ff, 4096, [&](size_t begin, size_t end, int) {
    swiglu(gate_.data() + begin, up_.data() + begin, end - begin);
  });
  matmul(w[Role::kFfnDown], w[Role::kFfnDownBias], gate_.data(), n_ff, n, projected_.data(), n_embd);
  add(x_.data(), projected_.data(), n * n_embd);
}

void Session::matmul(const Weight& w, const Weight& bias, const float* x, size_t x_stride, size_t n_tokens, float* y,
                     size_t y_stride) {
  const auto run = n_tokens >= kernels::kBatchTokens ? w.kernels->matmul_batch : w.kernels->matmul;
  pool_->parallel_for(w.n_rows, kRowsPerTask, [&](size_t begin, size_t end, int) {
    run({.rows = w.data + begin * w.row_bytes,
         .row_stride_bytes = w.row_bytes,
         .n_rows = end - begin,
         .n_cols = w.n_cols,
         .x = x,
         .x_stride = x_stride,
         .n_tokens = n_tokens,
         .y = y + begin,
         .y_stride = y_stride});
    if (!bias) return;
    for (size_t t = 0; t < n_tokens; ++t) add(y + t * y_stride + begin, bias.floats() + begin, end - begin);
  });
}

void Session::norm_rows(const Weight& gain, const float* x, size_t n, float* out) {
  const size_t n_embd = model_->hparams().n_embd;
  pool_->parallel_for(n, 8, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) {
      rms_norm(x + t * n_embd, gain.floats(), n_embd, model_->hparams().rms_eps, out + t * n_embd);
    }
  });
}

}  // namespace shoehorn::engine
