#include "engine/forward.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace shoehorn::engine {
namespace {

using models::Role;

constexpr size_t kRange = 1024;  // positions of an attention task when there are few tokens

size_t max_n_head_kv(const models::Hparams& h) {
  size_t n = 0;
  for (const models::LayerShape& layer : h.layers) n = std::max<size_t>(n, layer.n_head_kv);
  return n;
}

/// n_embd where what a part of a block gives goes through a norm, else 0.
size_t n_embd_behind_norms(const Model& model) {
  return models::has_role(model.architecture(), Role::kAttnPostNorm) ? model.hparams().n_embd : 0;
}

void store_row(const kernels::Kernels& kernels, const float* x, size_t n, std::byte* row) {
  if (kernels.store != nullptr) {
    kernels.store(x, n, row);
  } else {
    quant::format(kernels.type).encode(x, nullptr, row, n);
  }
}

}  // namespace

Forward::Forward(std::shared_ptr<const Model> model, const CacheTypes& cache, size_t n_ctx, size_t max_tokens,
                 int n_threads, Affinity affinity)
    : model_(std::move(model)),
      pool_(n_threads, std::move(affinity)),
      table_(&model_->kernels()),
      key_kernels_(&kernels::kernels_for(*table_, cache.keys)),
      value_kernels_(&kernels::kernels_for(*table_, cache.values)),
      products_(*table_, pool_),
      adapter_products_(*table_, pool_),
      max_tokens_(max_tokens),
      cache_(cache) {
  const models::Hparams& h = model_->hparams();
  const Weight& divisors = model_->global()[Role::kRopeFreqs];
  const float* freq_divisors = divisors ? divisors.floats() : nullptr;
  ropes_.emplace_back(models::rope_frequencies(h, freq_divisors, n_ctx), model_->rope());
  if (h.window_rope_theta != 0) ropes_.emplace_back(models::window_rope_frequencies(h, freq_divisors, n_ctx), model_->rope());
  if (h.alibi_max_bias > 0) {
    for (const models::LayerShape& layer : h.layers) slopes_.push_back(models::alibi_slopes(layer.n_head, h.alibi_max_bias));
  }
  if (h.parallel_residual) mlp_input_.reserve(max_tokens * h.n_embd);
  const size_t max_q = size_t{h.max_n_head()} * h.head_dim, max_kv = max_n_head_kv(h) * h.head_dim;
  x_.reserve(max_tokens * h.n_embd);
  normed_.reserve(max_tokens * h.n_embd);
  q_.reserve(max_tokens * max_q);
  attended_.reserve(max_tokens * max_q);
  k_.reserve(max_tokens * max_kv);
  v_.reserve(max_tokens * max_kv);
  gated_.reserve(max_tokens * h.max_n_ff());
  rotations_.reserve(ropes_.size() * max_tokens * h.n_rot);
  branch_.reserve(max_tokens * n_embd_behind_norms(*model_));
  if (h.n_expert > 0) {
    scores_.reserve(max_tokens * h.n_expert);
    expert_in_.reserve(max_tokens * h.n_embd);
    expert_out_.reserve(max_tokens * h.n_embd);
  }
  size_t scratch = table_->attend_scratch(h.head_dim);
  if (cache.rotate_keys || cache.rotate_values) {
    // KvCache::create refused heads that have none.
    head_transform_ = std::make_unique<hadamard::Transform<float>>(hadamard::plan(h.head_dim).value(), table_->hadamard);
    scratch = std::max(scratch, head_transform_->scratch());
  }
  for (size_t layer = 0; layer < h.n_layer; ++layer) {
    const int any = h.n_expert > 0 ? 0 : -1;
    if (h.transforms(any) && h.layers[layer].n_ff > 0) scratch = std::max(scratch, model_->ffn_hadamard(layer, any)->scratch());
  }
  scratch_per_thread_ = (scratch + 15) / 16 * 16;
  scratch_.reserve(static_cast<size_t>(n_threads) * scratch_per_thread_);
}

Status Forward::check(std::span<const tokenizer::Token> tokens) const {
  for (const tokenizer::Token token : tokens) {
    if (token < 0 || static_cast<size_t>(token) >= model_->hparams().n_vocab) {
      return fail(ErrorCode::kInvalid, "token id {} is outside the vocabulary of {}", token, model_->hparams().n_vocab);
    }
  }
  return {};
}

void Forward::run(std::span<const tokenizer::Token> tokens, std::span<const Segment> segments, float* logits) {
  if (tokens.empty()) return;
  const float* x = run_layers(tokens, segments);
  if (n_out_ > 0) multiply_output(x, n_out_, logits);
}

void Forward::run_states(std::span<const tokenizer::Token> tokens, std::span<const Segment> segments, float* out) {
  if (tokens.empty()) return;
  const float* x = run_layers(tokens, segments);
  if (n_out_ > 0) norm_output(x, n_out_, out);
}

const float* Forward::run_layers(std::span<const tokenizer::Token> tokens, std::span<const Segment> segments) {
  const models::Hparams& h = model_->hparams();
  const size_t n = tokens.size(), n_embd = h.n_embd;
  if (steps_ != nullptr) steps_->on_pass();
  embed(tokens, x_.data());
  // After the last layer only the tokens whose logits were asked for are looked at.
  std::vector<Segment> whole(segments.begin(), segments.end());
  for (Segment& segment : whole) segment.n_out = segment.n;
  lay_out(whole);
  done(Step::kEmbedding, 0);
  for (size_t layer = 0; layer < h.n_layer; ++layer)
    run_layer(layer, x_.data(), layer + 1 == h.n_layer ? segments : whole);
  return x_.data() + (n - n_out_) * n_embd;
}

void Forward::multiply_output(const float* x, size_t n, float* logits) {
  norm_output(x, n, normed_.data());
  done(Step::kOutputNorm, 0);
  const models::Hparams& h = model_->hparams();
  multiply(normed_.data(), n, h.n_embd, {{model_->output(), {}, logits}}, 0);
  if (const float cap = h.output_softcap; cap > 0) {
    pool_.parallel_for(n, 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin * h.n_vocab; i < end * h.n_vocab; ++i) logits[i] = cap * std::tanh(logits[i] / cap);
    });
  }
  done(Step::kOutput, 0);
}

void Forward::embed(std::span<const tokenizer::Token> tokens, float* x) const {
  const size_t n_embd = model_->hparams().n_embd;
  const float scale = model_->hparams().embedding_scale;
  const Weight& embedding = model_->global()[Role::kTokenEmbd];
  for (size_t t = 0; t < tokens.size(); ++t) {
    float* row = x + t * n_embd;
    embedding.kernels->expand(embedding.data + static_cast<size_t>(tokens[t]) * embedding.row_bytes, n_embd, row);
    if (scale != 1) std::for_each_n(row, n_embd, [&](float& v) { v *= scale; });
  }
}

void Forward::lay_out(std::span<const Segment> segments) {
  rows_.clear();
  adapted_.clear();
  adapted_out_.clear();
  n_out_ = 0;
  for (const Segment& segment : segments) {
    if (segment.adapters != nullptr && !segment.adapters->empty()) {
      adapted_.push_back({rows_.size(), segment.n, segment.adapters});
      if (segment.n_out > 0) adapted_out_.push_back({n_out_, segment.n_out, segment.adapters});
    }
    for (size_t t = 0; t < segment.n; ++t)
      rows_.push_back({&segment, segment.n_past + t, t >= segment.n - segment.n_out});
    n_out_ += segment.n_out;
  }
  attention_.clear();
  size_t first_row = 0;
  for (const Segment& segment : segments) {
    attention_.push_back({&segment, first_row, 0, 0, 0, 0, 0});
    first_row += segment.n_out;
  }
}

void Forward::run_layer(size_t layer, float* x, std::span<const Segment> segments) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  lay_out(segments);
  if (h.parallel_residual) std::copy_n(x, rows_.size() * h.n_embd, mlp_input_.data());
  if (shape.n_head > 0) {
    attention_block(layer, x);
  } else {
    keep_outputs(x);
    if (h.parallel_residual) keep_outputs(mlp_input_.data());
  }
  if (shape.n_ff > 0 && n_out_ > 0) mlp_block(layer, x);
}

void Forward::multiply(const float* x, size_t n_rows, size_t n_cols, std::initializer_list<Product> products, int bits,
                       const std::vector<AdaptedRows>& adapted) {
  products_.set_input(x, n_rows, n_cols, bits);
  if (adapted.empty()) return products_.run(products);
  for (const Product& product : products) {
    // What is done in one go otherwise comes apart: adapters go between the products and the activation.
    const size_t n_ff = product.weight.n_rows;
    const Product plain{product.weight, product.bias, product.y, nullptr, nullptr, product.accumulate};
    float* up = nullptr;
    if (product.up == nullptr) {
      products_.run({plain});
    } else {
      up_.reserve(max_tokens_ * n_ff);
      up = up_.data();
      products_.run({plain, {*product.up, *product.up_bias, up}});
      add_adapters(x, n_cols, *product.up, up, adapted);
    }
    add_adapters(x, n_cols, product.weight, product.y, adapted);
    if (!product.activation) continue;
    pool_.parallel_for(n_rows, 1, [&](size_t begin, size_t end, int) {
      const auto activate = table_->activate[static_cast<size_t>(*product.activation)];
      for (size_t t = begin; t < end; ++t) activate(product.y + t * n_ff, up == nullptr ? nullptr : up + t * n_ff, n_ff);
    });
  }
}

void Forward::add_adapters(const float* x, size_t n_cols, const Weight& weight, float* y,
                           const std::vector<AdaptedRows>& rows) {
  for (const AdaptedRows& group : rows) {
    for (const ScaledAdapter& scaled : *group.adapters) {
      const Adapter::Pair* pair = scaled.adapter->find(weight);
      if (pair == nullptr) continue;
      const size_t rank = pair->a.n_rows;
      low_rank_.reserve(group.n * rank);
      adapter_products_.set_input(x + group.first * n_cols, group.n, n_cols);
      adapter_products_.run({{pair->a, {}, low_rank_.data()}});
      for (size_t i = 0; i < group.n * rank; ++i) low_rank_.data()[i] *= pair->scale * scaled.scale;
      adapter_products_.set_input(low_rank_.data(), group.n, rank);
      adapter_products_.run({{pair->b, {}, y + group.first * weight.n_rows, nullptr, nullptr, true}});
    }
  }
}

void Forward::norm_output(const float* x, size_t n, float* out) {
  norm_rows(model_->global()[Role::kOutputNorm], model_->global()[Role::kOutputNormBias], x, n, out);
}

/// Moves the rows of [tokens, n_embd] that come out to the end. With one segment they are there.
void Forward::keep_outputs(float* x) const {
  const size_t n_embd = model_->hparams().n_embd;
  size_t to = rows_.size();
  for (size_t row = rows_.size(); row-- > 0;) {
    if (!rows_[row].comes_out) continue;
    if (--to != row) std::copy_n(x + row * n_embd, n_embd, x + to * n_embd);
  }
}

void Forward::attention_block(size_t layer, float* x) {
  const models::Hparams& h = model_->hparams();
  const WeightSet& w = model_->layer(layer);
  const size_t n_embd = h.n_embd, n = rows_.size();
  const Product query{w[Role::kAttnQ], w[Role::kAttnQBias], q_.data()},
      key{w[Role::kAttnK], w[Role::kAttnKBias], k_.data()}, value{w[Role::kAttnV], w[Role::kAttnVBias], v_.data()};

  norm_rows(w[Role::kAttnNorm], w[Role::kAttnNormBias], x, n, normed_.data());
  done(Step::kAttentionNorm, layer);
  if (n_out_ == n) {
    multiply(normed_.data(), n, n_embd, {query, key, value});
  } else {
    multiply(normed_.data(), n, n_embd, {key, value});
    keep_outputs(x);
    if (h.parallel_residual) keep_outputs(mlp_input_.data());
    if (n_out_ > 0) {
      keep_outputs(normed_.data());
      multiply(normed_.data() + (n - n_out_) * n_embd, n_out_, n_embd, {query});
    }
  }
  if (h.clamp_qkv > 0) clamp_heads(layer);
  done(Step::kQkv, layer);
  rotate_and_store(layer);
  done(Step::kRope, layer);
  if (n_out_ == 0) return;
  attend(layer);
  if (cache_.rotate_values) undo_value_rotation(layer);
  if (const Weight& norm = w[Role::kAttnSubNorm]) norm_rows(norm, {}, attended_.data(), n_out_, attended_.data());
  done(Step::kAttention, layer);
  add_branch(attended_.data(), size_t{h.layers[layer].n_head} * h.head_dim, w[Role::kAttnOutput], w[Role::kAttnOutputBias],
             w[Role::kAttnPostNorm], x + (n - n_out_) * n_embd);
  done(Step::kAttentionOutput, layer);
}

void Forward::clamp_heads(size_t layer) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const auto clamp = [&](AlignedBuffer<float>& heads, size_t n) {
    std::for_each_n(heads.data(), n * h.head_dim, [&](float& v) { v = std::clamp(v, -h.clamp_qkv, h.clamp_qkv); });
  };
  clamp(q_, n_out_ * shape.n_head);
  clamp(k_, rows_.size() * shape.n_head_kv);
  clamp(v_, rows_.size() * shape.n_head_kv);
}

/// The angles depend on positions alone: a pass computes them once, for its first layer.
void Forward::prepare_rotations() {
  const auto same = [](size_t position, const Row& row) { return position == row.position; };
  if (std::equal(rotated_.begin(), rotated_.end(), rows_.begin(), rows_.end(), same)) return;
  rotated_.clear();
  for (const Row& row : rows_) rotated_.push_back(row.position);
  size_t row = 0;
  while (row < rows_.size()) {
    size_t end = row + 1;
    while (end < rows_.size() && rotated_[end] == rotated_[end - 1] + 1) ++end;
    for (size_t rope = 0; rope < ropes_.size(); ++rope)
      ropes_[rope].table(rotated_[row], end - row, rotations_.data() + (rope * max_tokens_ + row) * ropes_[rope].n_rot());
    row = end;
  }
}

/// Norms and rotates the heads; keys and values go into the caches.
void Forward::rotate_and_store(size_t layer) {
  prepare_rotations();
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const WeightSet& w = model_->layer(layer);
  const Rope& rope = ropes_[rope_of(layer)];
  const size_t n_q = size_t{shape.n_head} * h.head_dim, n_kv = size_t{shape.n_head_kv} * h.head_dim;
  const auto transform = [&](float* heads, size_t n_heads, int thread) {
    head_transform_->apply(heads, scratch(thread), n_heads);
  };
  pool_.parallel_for(rows_.size(), 8, [&](size_t begin, size_t end, int thread) {
    // Queries are there only of the tokens that come out.
    auto query = static_cast<size_t>(std::count_if(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(begin),
                                                   [](const Row& row) { return row.comes_out; }));
    for (size_t t = begin; t < end; ++t) {
      const float* rotation = rotations_.data() + (rope_of(layer) * max_tokens_ + t) * rope.n_rot();
      const auto prepare = [&](float* heads, size_t n_heads, const Weight& norm) {
        const bool together = norm && norm.n_cols != h.head_dim;
        if (together) table_->rms_norm(heads, norm.floats(), norm.n_cols, h.norm_eps, heads);
        for (size_t i = 0; i < n_heads; ++i) {
          float* head = heads + i * h.head_dim;
          if (norm && !together) table_->rms_norm(head, norm.floats(), h.head_dim, h.norm_eps, head);
          if (shape.attention.rotated) rope.rotate(head, rotation);
        }
        if (cache_.rotate_keys) transform(heads, n_heads, thread);
      };
      if (rows_[t].comes_out) prepare(q_.data() + query++ * n_q, shape.n_head, w[Role::kAttnQNorm]);
      float* k = k_.data() + t * n_kv;
      float* v = v_.data() + t * n_kv;
      prepare(k, shape.n_head_kv, w[Role::kAttnKNorm]);
      if (cache_.rotate_values) transform(v, shape.n_head_kv, thread);
      const KvCache& cache = *rows_[t].segment->cache;
      const KvCache::Layer& store = cache.layer(layer);
      const size_t position = rows_[t].position;
      for (size_t i = 0; i < shape.n_head_kv; ++i) {
        store_row(*key_kernels_, k + i * h.head_dim, h.head_dim,
                  store.keys + i * store.key_head_bytes + position * cache.key_bytes());
        store_row(*value_kernels_, v + i * h.head_dim, h.head_dim,
                  store.values + i * store.value_head_bytes + position * cache.value_bytes());
      }
    }
  });
}

/// What attention mixed of transformed values is the transform of what it would have mixed of them.
void Forward::undo_value_rotation(size_t layer) {
  const size_t n_head = model_->hparams().layers[layer].n_head, n_q = n_head * model_->hparams().head_dim;
  pool_.parallel_for(n_out_, 8, [&](size_t begin, size_t end, int thread) {
    head_transform_->undo(attended_.data() + begin * n_q, scratch(thread), (end - begin) * n_head);
  });
}

/// attended_[t, head] = softmax(q . K / sqrt(head_dim)) V over the positions up to t, for the tokens that come out. A
/// task is a KV head of a sequence, as many tokens as fill a block of query rows, and a range of positions. Ranges do
/// not depend on the number of threads, so neither do the sums.
void Forward::attend(size_t layer) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const size_t group = shape.n_head / shape.n_head_kv, n_q = shape.n_head * h.head_dim;
  const size_t tokens_per_task = std::max<size_t>(1, table_->attend_rows / group);
  size_t n_tasks = 0, n_partial = 0, n_partial_rows = 0;
  for (Attention& plan : attention_) {
    const Segment& segment = *plan.segment;
    const size_t n_positions = segment.n_past + segment.n;
    plan.n_blocks = (segment.n_out + tokens_per_task - 1) / tokens_per_task;
    // Few tokens, many positions: ranges of positions one by one, then their weighted mean.
    plan.n_ranges = plan.n_blocks == 1 && n_positions > kRange ? (n_positions + kRange - 1) / kRange : 1;
    plan.first_task = n_tasks;
    n_tasks += shape.n_head_kv * plan.n_blocks * plan.n_ranges;
    if (plan.n_ranges == 1) continue;
    plan.first_partial = n_partial;
    plan.first_partial_row = n_partial_rows;
    n_partial += plan.n_ranges * segment.n_out * n_q;
    n_partial_rows += plan.n_ranges * shape.n_head_kv * segment.n_out * group;
  }
  partial_.reserve(n_partial);
  partial_max_.reserve(n_partial_rows);
  partial_sum_.reserve(n_partial_rows);
  pool_.parallel_for(n_tasks, 1, [&](size_t begin, size_t end, int thread) {
    for (size_t task = begin; task < end; ++task) {
      size_t plan = attention_.size() - 1;
      while (task < attention_[plan].first_task) --plan;
      attend_task(layer, attention_[plan], task - attention_[plan].first_task, thread);
    }
  });
  for (const Attention& plan : attention_) {
    if (plan.n_ranges > 1) merge_ranges(layer, plan);
  }
}

void Forward::attend_task(size_t layer, const Attention& plan, size_t task, int thread) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const Segment& segment = *plan.segment;
  const KvCache::Layer& cache = segment.cache->layer(layer);
  const size_t head_dim = h.head_dim, group = shape.n_head / shape.n_head_kv, n_q = shape.n_head * head_dim;
  const size_t n_positions = segment.n_past + segment.n, n_past = n_positions - segment.n_out;
  const size_t tokens_per_task = std::max<size_t>(1, table_->attend_rows / group);
  const size_t kv_head = task % shape.n_head_kv, index = task / shape.n_head_kv;
  const bool ranged = plan.n_ranges > 1;
  // The last blocks see the most positions: they go first.
  const size_t t = ranged ? 0 : (plan.n_blocks - 1 - index) * tokens_per_task;
  const size_t element = t * n_q + kv_head * group * head_dim;
  const size_t row = plan.first_partial_row + task * segment.n_out * group;
  float* out = ranged ? partial_.data() + plan.first_partial + index * segment.n_out * n_q
                      : attended_.data() + plan.first_row * n_q;
  table_->attend({.q = q_.data() + plan.first_row * n_q + element,
                  .q_stride = n_q,
                  .n_tokens = std::min(tokens_per_task, segment.n_out - t),
                  .n_heads = group,
                  .head_dim = head_dim,
                  .keys = cache.keys + kv_head * cache.key_head_bytes,
                  .values = cache.values + kv_head * cache.value_head_bytes,
                  .key_stride = segment.cache->key_bytes(),
                  .value_stride = segment.cache->value_bytes(),
                  .key = key_kernels_,
                  .value = value_kernels_,
                  .n_past = n_past + t,
                  .first = ranged ? index * kRange : 0,
                  .end = ranged ? std::min(n_positions, (index + 1) * kRange) : n_positions,
                  .scale = h.score_scale(),
                  .out = out + element,
                  .out_stride = n_q,
                  .max = ranged ? partial_max_.data() + row : nullptr,
                  .sum = ranged ? partial_sum_.data() + row : nullptr,
                  .scratch = scratch(thread),
                  .softcap = h.attention_softcap,
                  .window = shape.attention.windowed ? h.window : 0,
                  .slopes = h.alibi_max_bias > 0 ? slopes_[layer].data() + kv_head * group : nullptr});
}

void Forward::merge_ranges(size_t layer, const Attention& plan) {
  const models::Hparams& h = model_->hparams();
  const models::LayerShape& shape = h.layers[layer];
  const size_t head_dim = h.head_dim, group = shape.n_head / shape.n_head_kv, n_q = shape.n_head * head_dim;
  const size_t n_out = plan.segment->n_out, rows = n_out * group;  // rows of one KV head
  const float* partial = partial_.data() + plan.first_partial;
  const float* partial_max = partial_max_.data() + plan.first_partial_row;
  const float* partial_sum = partial_sum_.data() + plan.first_partial_row;
  for (size_t kv_head = 0; kv_head < shape.n_head_kv; ++kv_head) {
    for (size_t row = 0; row < rows; ++row) {
      const auto index = [&](size_t range) { return (range * shape.n_head_kv + kv_head) * rows + row; };
      float max = partial_max[index(0)], total = 0;
      for (size_t range = 1; range < plan.n_ranges; ++range) max = std::max(max, partial_max[index(range)]);
      const size_t element = row / group * n_q + (kv_head * group + row % group) * head_dim;
      float* out = attended_.data() + plan.first_row * n_q + element;
      std::fill_n(out, head_dim, 0.0f);
      for (size_t range = 0; range < plan.n_ranges; ++range) {
        const float share = partial_sum[index(range)] * std::exp(partial_max[index(range)] - max);
        const float* part = partial + range * n_out * n_q + element;
        for (size_t d = 0; d < head_dim; ++d) out[d] += share * part[d];
        total += share;
      }
      for (size_t d = 0; d < head_dim; ++d) out[d] /= total;
    }
  }
}

void Forward::mlp_block(size_t layer, float* x) {
  const models::Hparams& h = model_->hparams();
  const WeightSet& w = model_->layer(layer);
  const size_t n_embd = h.n_embd;
  const size_t first_out = (rows_.size() - n_out_) * n_embd;
  float* out = x + first_out;
  norm_rows(w[Role::kFfnNorm], w[Role::kFfnNormBias], h.parallel_residual ? mlp_input_.data() + first_out : out, n_out_, normed_.data());
  done(Step::kFfnNorm, layer);
  if (w[Role::kFfnRouter]) {
    experts_block(layer, out);
    done(Step::kExperts, layer);
    return;
  }
  gate_and_up(layer, -1, normed_.data(), n_out_, adapted_out_);
  done(Step::kGateUp, layer);
  if (h.transforms(-1)) {
    transform_gated(layer, -1, n_out_);
    done(Step::kFfnHadamard, layer);
  }
  add_branch(gated_.data(), h.layers[layer].n_ff, w[Role::kFfnDown], w[Role::kFfnDownBias], w[Role::kFfnPostNorm], out);
  done(Step::kDown, layer);
}

void Forward::gate_and_up(size_t layer, int expert, const float* x, size_t n, const std::vector<AdaptedRows>& adapted) {
  const models::Hparams& h = model_->hparams();
  const WeightSet& w = model_->layer(layer);
  const auto of = [&](Role role) -> const Weight& { return w[{role, expert}]; };
  const bool gated = static_cast<bool>(of(Role::kFfnGate));
  multiply(x, n, h.n_embd,
           {{.weight = of(gated ? Role::kFfnGate : Role::kFfnUp),
             .bias = of(gated ? Role::kFfnGateBias : Role::kFfnUpBias),
             .y = gated_.data(),
             .up = gated ? &of(Role::kFfnUp) : nullptr,
             .up_bias = gated ? &of(Role::kFfnUpBias) : nullptr,
             .activation = h.activation}},
           activation_bits_, adapted);
  if (const Weight& norm = w[Role::kFfnSubNorm]) norm_rows(norm, {}, gated_.data(), n, gated_.data());
}

void Forward::transform_gated(size_t layer, int expert, size_t n) {
  const hadamard::Transform<float>* transform = model_->ffn_hadamard(layer, expert);
  if (transform == nullptr) return;
  pool_.parallel_for(n, 1, [&](size_t begin, size_t end, int thread) {
    transform->apply(gated_.data() + begin * transform->n(), scratch(thread), end - begin);
  });
}

void Forward::experts_block(size_t layer, float* out) {
  const models::Hparams& h = model_->hparams();
  const WeightSet& w = model_->layer(layer);
  const size_t n = n_out_, n_embd = h.n_embd;
  multiply(normed_.data(), n, n_embd, {{w[Role::kFfnRouter], {}, scores_.data()}}, 0);
  choose_experts(n);
  if (const Weight& share = w[Role::kFfnSharedShare]) {
    gate_and_up(layer, -1, normed_.data(), n, adapted_out_);
    multiply(gated_.data(), n, h.n_ff_shared, {{w[Role::kFfnDown], {}, expert_out_.data()}}, activation_bits_, adapted_out_);
    pool_.parallel_for(n, 8, [&](size_t begin, size_t end, int) {
      for (size_t t = begin; t < end; ++t) {
        const float* x = normed_.data() + t * n_embd;
        const float score = std::inner_product(x, x + n_embd, share.floats(), 0.0f), factor = 1 / (1 + std::exp(-score));
        const float* y = expert_out_.data() + t * n_embd;
        for (size_t i = 0; i < n_embd; ++i) out[t * n_embd + i] += factor * y[i];
      }
    });
  }
  for (size_t first = 0, end = 0; first < routes_.size(); first = end) {
    const size_t expert = routes_[first].expert;
    while (end < routes_.size() && routes_[end].expert == expert) ++end;
    const size_t n_routed = end - first;
    const float* x = normed_.data();
    if (n_routed < n) {
      for (size_t i = 0; i < n_routed; ++i) std::copy_n(normed_.data() + routes_[first + i].token * n_embd, n_embd, expert_in_.data() + i * n_embd);
      x = expert_in_.data();
    }
    adapted_routes_.clear();
    for (const AdaptedRows& rows : adapted_out_) {
      const auto begin = routes_.begin() + static_cast<std::ptrdiff_t>(first), behind = begin + static_cast<std::ptrdiff_t>(n_routed);
      const auto before = [](const Route& route, size_t token) { return route.token < token; };
      const auto from = std::lower_bound(begin, behind, rows.first, before), to = std::lower_bound(begin, behind, rows.first + rows.n, before);
      if (from != to) adapted_routes_.push_back({static_cast<size_t>(from - begin), static_cast<size_t>(to - from), rows.adapters});
    }
    gate_and_up(layer, static_cast<int>(expert), x, n_routed, adapted_routes_);
    transform_gated(layer, static_cast<int>(expert), n_routed);
    multiply(gated_.data(), n_routed, h.layers[layer].n_ff, {{w[{Role::kFfnDown, static_cast<int>(expert)}], {}, expert_out_.data()}}, activation_bits_, adapted_routes_);
    add_routed(first, n_routed, out);
  }
}

/// From the scores [n, n_expert]: the n_expert_used largest shares of each token, of equal ones the first.
void Forward::choose_experts(size_t n) {
  const models::Hparams& h = model_->hparams();
  const size_t n_expert = h.n_expert, n_used = h.n_expert_used;
  order_.resize(n_expert);
  routes_.clear();
  for (size_t t = 0; t < n; ++t) {
    float* share = scores_.data() + t * n_expert;
    const float largest = *std::max_element(share, share + n_expert);
    float total = 0;
    for (size_t e = 0; e < n_expert; ++e) total += share[e] = std::exp(share[e] - largest);
    for (size_t e = 0; e < n_expert; ++e) share[e] /= total;
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(n_used), order_.end(),
                      [&](size_t a, size_t b) { return share[a] != share[b] ? share[a] > share[b] : a < b; });
    float used = 1;
    if (h.renormalize_experts) {
      used = 0;
      for (size_t i = 0; i < n_used; ++i) used += share[order_[i]];
    }
    for (size_t i = 0; i < n_used; ++i) routes_.push_back({order_[i], t, share[order_[i]] / used});
  }
  std::ranges::sort(routes_, {}, [](const Route& route) { return std::pair(route.expert, route.token); });
}

void Forward::add_routed(size_t first, size_t n, float* out) {
  const size_t n_embd = model_->hparams().n_embd;
  pool_.parallel_for(n, 8, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; ++i) {
      const Route& route = routes_[first + i];
      const float* y = expert_out_.data() + i * n_embd;
      float* x = out + route.token * n_embd;
      for (size_t c = 0; c < n_embd; ++c) x[c] += route.share * y[c];
    }
  });
}

void Forward::add_branch(const float* input, size_t n_cols, const Weight& weight, const Weight& bias, const Weight& post, float* x) {
  if (!post) return multiply(input, n_out_, n_cols, {{weight, bias, x, nullptr, nullptr, true}});
  const size_t n_embd = model_->hparams().n_embd;
  multiply(input, n_out_, n_cols, {{weight, bias, branch_.data()}});
  norm_rows(post, {}, branch_.data(), n_out_, branch_.data());
  pool_.parallel_for(n_out_, 8, [&](size_t begin, size_t end, int) { table_->add(x + begin * n_embd, branch_.data() + begin * n_embd, (end - begin) * n_embd); });
}

void Forward::norm_rows(const Weight& gain, const Weight& bias, const float* x, size_t n, float* out) {
  const models::Hparams& h = model_->hparams();
  if (!gain) {  // norms behind a part may be the only ones
    std::copy_n(x, n * h.n_embd, out);
    return;
  }
  const size_t width = gain.n_cols;
  pool_.parallel_for(n, 8, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; ++t) {
      if (h.norm == models::NormKind::kLayer) {
        table_->layer_norm(x + t * width, gain.floats(), bias ? bias.floats() : nullptr, width, h.norm_eps, out + t * width);
      } else {
        table_->rms_norm(x + t * width, gain.floats(), width, h.norm_eps, out + t * width);
      }
    }
  });
}

}  // namespace shoehorn::engine
