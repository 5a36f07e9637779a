#include "engine/session.h"

#include <algorithm>
#include <cmath>

#include "base/memory.h"

namespace shoehorn::engine {
namespace {

using models::Role;

constexpr size_t kDefaultContext = 4096;
constexpr size_t kRange = 1024; // positions of an attention task when there are few tokens

size_t max_n_head_kv(const models::Hparams& h) {
  size_t n = 0;
  for (const models::LayerShape& layer : h.layers) n = std::max<size_t>(n, layer.n_head_kv);
  return n;
}

void store_row(const kernels::Kernels& kernels, const float* x, size_t n, std::byte* row) {
  if (kernels.store != nullptr) {
    kernels.store(x, n, row);
  } else {
    quant::format(kernels.type).encode(x, nullptr, row, n);
  }
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
      rope_(model_->hparams(), model_->rope(),
            model_->global()[Role::kRopeFreqs] ? model_->global()[Role::kRopeFreqs].floats() : nullptr),
      table_(&model_->kernels()),
      key_kernels_(&kernels::kernels_for(*table_, cache_.key_format().type)),
      value_kernels_(&kernels::kernels_for(*table_, cache_.value_format().type)),
      products_(std::make_unique<Products>(*table_, *pool_)),
      n_batch_(n_batch) {
  const models::Hparams& h = model_->hparams();
  const size_t max_q = size_t{h.max_n_head()} * h.head_dim, max_kv = max_n_head_kv(h) * h.head_dim;
  x_.reserve(n_batch * h.n_embd);
  normed_.reserve(n_batch * h.n_embd);
  q_.reserve(n_batch * max_q);
  attended_.reserve(n_batch * max_q);
  k_.reserve(n_batch * max_kv);
  v_.reserve(n_batch * max_kv);
  gated_.reserve(n_batch * h.max_n_ff());
  rotations_.reserve(n_batch * rope_.n_rot());
  scratch_per_thread_ = (table_->attend_scratch(h.head_dim) + 15) / 16 * 16;
  scratch_.reserve(static_cast<size_t>(n_threads) * scratch_per_thread_);
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
  logits_.reserve(n_logits * n_vocab());
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
  return std::span<const float>(logits_.data(), n_logits * n_vocab());
}

void Session::forward(std::span<const tokenizer::Token> tokens, size_t n_logits, float* logits) {
  const models::Hparams& h = model_->hparams();
  const size_t n = tokens.size(), n_embd = h.n_embd;
  embed(tokens, x_.data());
  for (size_t layer = 0; layer < h.n_layer; ++layer) {
    // After the last layer only the tokens whose logits were asked for are looked at.
    run_layer(layer, {.x = x_.data(), .n_past = n_past_, .n = n, .n_out = layer + 1 == h.n_layer ? n_logits : n});
  }
  if (n_logits == 0) return;
  multiply_output(x_.data() + (n - n_logits) * n_embd, n_logits, logits);
}

void Session::multiply_output(const float* x, size_t n, float* logits) {
  norm_output(x, n, normed_.data());
  products_->set_input(normed_.data(), n, model_->hparams().n_embd);
  products_->run({{model_->output(), {}, logits}});
}

void Session::embed(std::span<const tokenizer::Token> tokens, float* x) const {
  const size_t n_embd = model_->hparams().n_embd;
  const Weight& embedding = model_->global()[Role::kTokenEmbd];
  for (size_t t = 0; t < tokens.size(); ++t) {
    embedding.kernels->expand(embedding.data + static_cast<size_t>(tokens[t]) * embedding.row_bytes, n_embd, x + t * n_embd);
  }
}

void Session::run_layer(size_t layer, const Stream& stream) {
  const models::LayerShape& shape = model_->hparams().layers[layer];
  if (shape.n_head > 0) attention_block(layer, stream);
  if (shape.n_ff > 0 && stream.n_out > 0) mlp_block(layer, stream);
}

void Session::norm_output(const float* x, size_t n, float* out) { norm_rows(model_->global()[Role::kOutputNorm], x, n, out); }

void Session::attention_block(size_t layer, const Stream& stream) {
  const models::Hparams& h = model_->hparams();
  const WeightSet& w = model_->layer(layer);
  const size_t n_embd = h.n_embd, n = stream.n, n_out = stream.n_out;
  const Product query{w[Role::kAttnQ], w[Role::kAttnQBias], q_.data()}, key{w[Role::kAttnK], w[Role::kAttnKBias], k_.data()},
      value{w[Role::kAttnV], w[Role::kAttnVBias], v_.data()};

  norm_rows(w[Role::kAttnNorm], stream.x, n, normed_.data());
  products_->set_input(normed_.data(), n, n_embd);
  if (n_out == n) {
    products_->run({query, key, value});
  } else {
    products_->run({key, value});
    if (n_out > 0) {
      products_->set_input(normed_.data() + (n - n_out) * n_embd, n_out, n_embd);
      products_->run({query});
    }
  }
  rotate_and_store(layer, stream);
  if (n_out == 0) return;
  attend(layer, stream);
  products_->set_input(attended_.data(), n_out, size_t{h.layers[layer].n_head} * h.head_dim);
  products_->run({{w[Role::kAttnOutput], w[Role::kAttnOutputBias], stream.x + (n - n_out) * n_embd, nullptr, nullptr, true}});
}

/// The angles depend on positions alone: a pass computes them once, for its first layer.
void Session::prepare_rotations(size_t first, size_t n) {
  if (first == first_rotation_ && n == n_rotations_) return;
  rope_.table(first, n, rotations_.data());
  first_rotation_ = first;
  n_rotations_ = n;
}

/// Norms and rotates the heads; keys and values go into the cache.
void Session::rotate_and_store(size_t layer, const Stream& stream) {
  prepare_rotations(stream.n_past, stream.n);
  const size_t n = stream.n, n_out = stream.n_out;
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const WeightSet& w = model_->layer(layer);
  const size_t n_q = size_t{shape.n_head} * h.head_dim, n_kv = size_t{shape.n_head_kv} * h.head_dim;
  const KvCache::Layer& cache = cache_.layer(layer);
  pool_->parallel_for(n, 8, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) {
      const float* rotation = rotations_.data() + t * rope_.n_rot();
      const auto prepare = [&](float* heads, size_t n_heads, const Weight& norm) {
        for (size_t i = 0; i < n_heads; ++i) {
          float* head = heads + i * h.head_dim;
          if (norm) table_->rms_norm(head, norm.floats(), h.head_dim, h.rms_eps, head);
          rope_.rotate(head, rotation);
        }
      };
      if (t >= n - n_out) prepare(q_.data() + (t - (n - n_out)) * n_q, shape.n_head, w[Role::kAttnQNorm]);
      float* k = k_.data() + t * n_kv;
      const float* v = v_.data() + t * n_kv;
      prepare(k, shape.n_head_kv, w[Role::kAttnKNorm]);
      const size_t position = stream.n_past + t;
      for (size_t i = 0; i < shape.n_head_kv; ++i) {
        store_row(*key_kernels_, k + i * h.head_dim, h.head_dim, cache.keys + i * cache.key_head_bytes + position * cache_.key_bytes());
        store_row(*value_kernels_, v + i * h.head_dim, h.head_dim, cache.values + i * cache.value_head_bytes + position * cache_.value_bytes());
      }
    }
  });
}

/// attended_[t, head] = softmax(q . K / sqrt(head_dim)) V over the positions up to t, for the tokens that come out. A task is a KV
/// head, as many tokens as fill a block of query rows, and a range of positions. Ranges do not depend on the number of threads,
/// so neither do the sums.
void Session::attend(size_t layer, const Stream& stream) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const KvCache::Layer& cache = cache_.layer(layer);
  const size_t head_dim = h.head_dim, group = shape.n_head / shape.n_head_kv, n_q = shape.n_head * head_dim;
  const size_t n_out = stream.n_out, n_positions = stream.n_past + stream.n, n_past = n_positions - n_out;
  const size_t tokens_per_task = std::max<size_t>(1, table_->attend_rows / group);
  const size_t n_blocks = (n_out + tokens_per_task - 1) / tokens_per_task;
  const auto run = [&](size_t kv_head, size_t block, size_t first, size_t end, float* out, float* max, float* sum, int thread) {
    const size_t t = block * tokens_per_task;
    const size_t element = t * n_q + kv_head * group * head_dim;
    table_->attend({.q = q_.data() + element,
                    .q_stride = n_q,
                    .n_tokens = std::min(tokens_per_task, n_out - t),
                    .n_heads = group,
                    .head_dim = head_dim,
                    .keys = cache.keys + kv_head * cache.key_head_bytes,
                    .values = cache.values + kv_head * cache.value_head_bytes,
                    .key_stride = cache_.key_bytes(),
                    .value_stride = cache_.value_bytes(),
                    .key = key_kernels_,
                    .value = value_kernels_,
                    .n_past = n_past + t,
                    .first = first,
                    .end = end,
                    .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
                    .out = out + element,
                    .out_stride = n_q,
                    .max = max,
                    .sum = sum,
                    .scratch = scratch_.data() + static_cast<size_t>(thread) * scratch_per_thread_});
  };
  if (n_blocks > 1 || n_positions <= kRange) {
    pool_->parallel_for(shape.n_head_kv * n_blocks, 1, [&](size_t begin, size_t end, int thread) {
      for (size_t task = begin; task < end; ++task) {
        // The last blocks see the most positions: they go first.
        run(task % shape.n_head_kv, n_blocks - 1 - task / shape.n_head_kv, 0, n_positions, attended_.data(), nullptr, nullptr, thread);
      }
    });
    return;
  }

  // Few tokens, many positions: ranges of positions one by one, then their weighted mean.
  const size_t n_ranges = (n_positions + kRange - 1) / kRange, rows = n_out * group;  // of one KV head
  partial_.reserve(n_ranges * n_out * n_q);
  partial_max_.reserve(n_ranges * shape.n_head_kv * rows);
  partial_sum_.reserve(n_ranges * shape.n_head_kv * rows);
  pool_->parallel_for(shape.n_head_kv * n_ranges, 1, [&](size_t begin, size_t end, int thread) {
    for (size_t task = begin; task < end; ++task) {
      const size_t range = task / shape.n_head_kv, kv_head = task % shape.n_head_kv, row = task * rows;
      run(kv_head, 0, range * kRange, std::min(n_positions, (range + 1) * kRange), partial_.data() + range * n_out * n_q,
          partial_max_.data() + row, partial_sum_.data() + row, thread);
    }
  });
  for (size_t kv_head = 0; kv_head < shape.n_head_kv; ++kv_head) {
    for (size_t row = 0; row < rows; ++row) {
      const auto index = [&](size_t range) { return (range * shape.n_head_kv + kv_head) * rows + row; };
      float max = partial_max_.data()[index(0)], total = 0;
      for (size_t range = 1; range < n_ranges; ++range) max = std::max(max, partial_max_.data()[index(range)]);
      const size_t element = row / group * n_q + (kv_head * group + row % group) * head_dim;
      float* out = attended_.data() + element;
      std::fill_n(out, head_dim, 0.0f);
      for (size_t range = 0; range < n_ranges; ++range) {
        const float share = partial_sum_.data()[index(range)] * std::exp(partial_max_.data()[index(range)] - max);
        const float* part = partial_.data() + range * n_out * n_q + element;
        for (size_t d = 0; d < head_dim; ++d) out[d] += share * part[d];
        total += share;
      }
      for (size_t d = 0; d < head_dim; ++d) out[d] /= total;
    }
  }
}

void Session::mlp_block(size_t layer, const Stream& stream) {
  const models::Hparams& h = model_->hparams();
  const WeightSet& w = model_->layer(layer);
  const size_t n_embd = h.n_embd, n_out = stream.n_out;
  float* x = stream.x + (stream.n - n_out) * n_embd;
  norm_rows(w[Role::kFfnNorm], x, n_out, normed_.data());
  products_->set_input(normed_.data(), n_out, n_embd);
  products_->run({{w[Role::kFfnGate], w[Role::kFfnGateBias], gated_.data(), &w[Role::kFfnUp], &w[Role::kFfnUpBias]}});
  products_->set_input(gated_.data(), n_out, h.layers[layer].n_ff);
  products_->run({{w[Role::kFfnDown], w[Role::kFfnDownBias], x, nullptr, nullptr, true}});
}

void Session::norm_rows(const Weight& gain, const float* x, size_t n, float* out) {
  const size_t n_embd = model_->hparams().n_embd;
  pool_->parallel_for(n, 8, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) {
      table_->rms_norm(x + t * n_embd, gain.floats(), n_embd, model_->hparams().rms_eps, out + t * n_embd);
    }
  });
}

}  // namespace shoehorn::engine
