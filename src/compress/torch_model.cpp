#include "compress/torch_model.h"

#include <cmath>
#include <limits>

#include "models/rope.h"

namespace shoehorn::compress {

using models::Role;

namespace {

at::Tensor activate(Activation activation, const at::Tensor& x) {
  switch (activation) {
    case Activation::kSilu: return at::silu(x);
    case Activation::kGeluTanh: return at::gelu(x, "tanh");
    case Activation::kGelu: return at::gelu(x);
    case Activation::kRelu2: return at::relu(x).square();
  }
  return x;
}

}  // namespace

Role bias_of(Role weight) {
  switch (weight) {
    case Role::kAttnQ: return Role::kAttnQBias;
    case Role::kAttnK: return Role::kAttnKBias;
    case Role::kAttnV: return Role::kAttnVBias;
    case Role::kAttnOutput: return Role::kAttnOutputBias;
    case Role::kFfnGate: return Role::kFfnGateBias;
    case Role::kFfnUp: return Role::kFfnUpBias;
    case Role::kAttnNorm: return Role::kAttnNormBias;
    case Role::kFfnNorm: return Role::kFfnNormBias;
    case Role::kOutputNorm: return Role::kOutputNormBias;
    default: return Role::kFfnDownBias;
  }
}

at::Tensor project(const TensorSet& weights, models::WeightId weight, const at::Tensor& x) {
  return at::linear(x, weights[weight], weights[{bias_of(weight.role), weight.expert}]);
}

TorchModel::TorchModel(const models::Hparams& hparams, Compute compute, std::vector<float> rope_divisors)
    : hparams_(hparams), compute_(compute), rope_divisors_(std::move(rope_divisors)) {}

at::Tensor TorchModel::block(const TensorSet& weights, const at::Tensor& x) const {
  return block(weights, x, [&](models::WeightId weight, const at::Tensor& input) { return project(weights, weight, input); });
}

at::Tensor TorchModel::block(const TensorSet& weights, const at::Tensor& x, const Projection& projection) const {
  at::Tensor out = x;
  if (weights[Role::kAttnQ].defined()) out = out + attention(weights, out, projection);
  if (weights[Role::kFfnDown].defined() || weights[Role::kFfnRouter].defined()) out = out + mlp(weights, hparams_.parallel_residual ? x : out, projection);
  return out;
}

at::Tensor TorchModel::logits(const TensorSet& global, const at::Tensor& x) const {
  const at::Tensor& output = global[Role::kOutput].defined() ? global[Role::kOutput] : global[Role::kTokenEmbd];
  return softcapped(at::linear(norm(x, global, Role::kOutputNorm), output).to(compute_.wide()), hparams_.output_softcap);
}

at::Tensor TorchModel::rms_norm(const at::Tensor& x, const at::Tensor& gain) const {
  const at::Tensor wide = x.to(compute_.wide());
  const at::Tensor scale = (wide.square().mean(-1, true) + static_cast<double>(hparams_.norm_eps)).rsqrt();
  return (wide * scale * gain).to(compute_.dtype);
}

at::Tensor TorchModel::norm(const at::Tensor& x, const TensorSet& weights, Role role) const {
  if (hparams_.norm == models::NormKind::kRms) return rms_norm(x, weights[role]);
  const at::Tensor gain = weights[role];
  return at::layer_norm(x.to(compute_.wide()), gain.sizes(), gain, weights[bias_of(role)], static_cast<double>(hparams_.norm_eps)).to(compute_.dtype);
}

at::Tensor TorchModel::before(const at::Tensor& x, const TensorSet& weights, Role role) const {
  return weights[role].defined() ? norm(x, weights, role) : x.to(compute_.dtype);
}

at::Tensor TorchModel::behind(const at::Tensor& branch, const at::Tensor& gain) const {
  return (gain.defined() ? rms_norm(branch, gain) : branch).to(compute_.wide());
}

at::Tensor TorchModel::softcapped(const at::Tensor& x, float cap) {
  return cap > 0 ? at::tanh(x / static_cast<double>(cap)) * static_cast<double>(cap) : x;
}

at::Tensor TorchModel::attention(const TensorSet& weights, const at::Tensor& x, const Projection& projection) const {
  const int64_t n = x.size(0), n_tokens = x.size(1), head_dim = hparams_.head_dim;
  const int64_t n_head = weights[Role::kAttnQ].size(0) / head_dim, n_kv = weights[Role::kAttnK].size(0) / head_dim;
  const at::Tensor normed = before(x, weights, Role::kAttnNorm);
  const auto heads = [&](Role role, int64_t count) {
    const at::Tensor y = projection(role, normed).view({n, n_tokens, count, head_dim});
    const auto limit = static_cast<double>(hparams_.clamp_qkv);
    return limit > 0 ? y.clamp(-limit, limit) : y;
  };
  // Per head, or over all heads together, as wide as the gain is.
  const auto norm_heads = [&](const at::Tensor& x_heads, const at::Tensor& gain) {
    return gain.defined() ? rms_norm(x_heads.reshape({n, n_tokens, -1, gain.size(0)}), gain).view(x_heads.sizes()) : x_heads;
  };
  at::Tensor q = norm_heads(heads(Role::kAttnQ, n_head), weights[Role::kAttnQNorm]);
  at::Tensor k = norm_heads(heads(Role::kAttnK, n_kv), weights[Role::kAttnKNorm]);
  q = q.transpose(1, 2);
  k = k.transpose(1, 2);
  if (weights.attention.rotated) {
    q = rotate(q, weights.attention.windowed);
    k = rotate(k, weights.attention.windowed);
  }
  const at::Tensor v = heads(Role::kAttnV, n_kv).transpose(1, 2);

  // The query heads of a KV head are consecutive: they become further rows of one product.
  const int64_t group = n_head / n_kv;
  // The float of models/ where it says one: 1 / sqrt(head_dim) is taken in double precision.
  const double score_scale = hparams_.attention_scale > 0 ? static_cast<double>(hparams_.attention_scale) : 1 / std::sqrt(static_cast<double>(head_dim));
  q = q.reshape({n * n_kv, group * n_tokens, head_dim});
  k = k.reshape({n * n_kv, n_tokens, head_dim});
  at::Tensor scores = at::bmm(q, k.transpose(1, 2)).to(compute_.wide()) * score_scale;
  scores = softcapped(scores, hparams_.attention_softcap);
  if (hparams_.alibi_max_bias > 0) {
    const auto slopes = models::alibi_slopes(static_cast<uint32_t>(n_head), hparams_.alibi_max_bias);
    const at::Tensor position = at::arange(n_tokens, compute_.wide_options()), distance = position.unsqueeze(1) - position.unsqueeze(0);
    const at::Tensor lost = at::tensor(slopes).to(compute_.wide_options()).view({n_kv, group, 1, 1}) * distance;
    scores = scores - lost.repeat({n, 1, 1, 1}).view(scores.sizes());
  }
  at::Tensor hidden = at::ones({n_tokens, n_tokens}, compute_.wide_options().dtype(at::kBool)).triu(1);
  if (weights.attention.windowed) hidden = hidden.logical_or(at::ones_like(hidden).tril(-static_cast<int64_t>(hparams_.window)));
  scores = scores.view({n * n_kv, group, n_tokens, n_tokens}).masked_fill(hidden, -std::numeric_limits<double>::infinity());
  const at::Tensor shares = at::softmax(scores, -1).to(compute_.dtype).view({n * n_kv, group * n_tokens, n_tokens});
  const at::Tensor mixed = at::bmm(shares, v.reshape({n * n_kv, n_tokens, head_dim}));
  at::Tensor out = mixed.view({n, n_head, n_tokens, head_dim}).transpose(1, 2).reshape({n, n_tokens, n_head * head_dim});
  if (weights[Role::kAttnSubNorm].defined()) out = rms_norm(out, weights[Role::kAttnSubNorm]);
  return behind(projection(Role::kAttnOutput, out), weights[Role::kAttnPostNorm]);
}

at::Tensor TorchModel::mlp(const TensorSet& weights, const at::Tensor& x, const Projection& projection) const {
  const at::Tensor normed = before(x, weights, Role::kFfnNorm);
  const bool routed = weights[Role::kFfnRouter].defined();
  return behind(routed ? experts(weights, normed, projection) : one_mlp(weights, normed, -1, projection), weights[Role::kFfnPostNorm]);
}

at::Tensor TorchModel::one_mlp(const TensorSet& weights, const at::Tensor& normed, int expert, const Projection& projection) const {
  at::Tensor gated;
  if (weights[{Role::kFfnGate, expert}].defined()) {
    const at::Tensor gate = projection({Role::kFfnGate, expert}, normed), up = projection({Role::kFfnUp, expert}, normed);
    gated = activate(hparams_.activation, gate) * up;
  } else {
    gated = activate(hparams_.activation, projection({Role::kFfnUp, expert}, normed));
  }
  if (weights[Role::kFfnSubNorm].defined()) gated = rms_norm(gated, weights[Role::kFfnSubNorm]);
  if (hparams_.transforms(expert)) gated = transform(gated.size(-1))(gated);
  return projection({Role::kFfnDown, expert}, gated);
}

at::Tensor TorchModel::experts(const TensorSet& weights, const at::Tensor& normed, const Projection& projection) const {
  const at::Tensor rows = normed.reshape({-1, normed.size(-1)});
  const at::Tensor shares = at::softmax(projection(Role::kFfnRouter, rows).to(compute_.wide()), -1);
  auto [share, expert_of] = shares.topk(hparams_.n_expert_used, -1);
  if (hparams_.renormalize_experts) share = share / share.sum(-1, true);
  at::Tensor out = at::zeros(rows.sizes(), compute_.wide_options());
  if (weights[Role::kFfnDown].defined()) {
    // The one that works on every token.
    const at::Tensor scores = at::mv(rows, weights[Role::kFfnSharedShare].to(rows.scalar_type())).to(compute_.wide());
    out = out + one_mlp(weights, rows, -1, projection).to(compute_.wide()) * at::sigmoid(scores).unsqueeze(1);
  }
  for (int expert = 0; expert < static_cast<int>(weights.n_experts()); ++expert) {
    if (!weights[{Role::kFfnDown, expert}].defined()) continue;
    const at::Tensor places = expert_of.eq(expert).nonzero();  // [n, 2] token, which of its experts
    if (places.size(0) == 0) continue;
    const at::Tensor token = places.select(1, 0);
    const at::Tensor y = one_mlp(weights, rows.index_select(0, token), expert, projection).to(compute_.wide());
    out = out.index_add(0, token, y * share.index({token, places.select(1, 1)}).unsqueeze(1));
  }
  return out.view(normed.sizes());
}

const HadamardRows& TorchModel::transform(int64_t n) const {
  const auto known = transforms_.find(n);
  if (known != transforms_.end()) return known->second;
  // check_hparams() refused widths that have none.
  return transforms_[n] = HadamardRows(hadamard::plan(static_cast<size_t>(n)).value(), compute_.options());
}

at::Tensor TorchModel::rotate(const at::Tensor& heads, bool windowed) const {
  const auto& [cosines, sines] = rotations(heads.size(2), windowed);
  const int64_t half = hparams_.n_rot / 2;
  const at::Tensor wide = heads.to(compute_.wide());
  const at::Tensor a = wide.narrow(-1, 0, half), b = wide.narrow(-1, half, half);
  std::vector<at::Tensor> parts = {a * cosines - b * sines, b * cosines + a * sines};
  if (hparams_.n_rot < hparams_.head_dim) parts.push_back(wide.narrow(-1, hparams_.n_rot, hparams_.head_dim - hparams_.n_rot));
  return at::cat(parts, -1).to(compute_.dtype);
}

const std::pair<at::Tensor, at::Tensor>& TorchModel::rotations(int64_t n_tokens, bool windowed) const {
  auto& known = rotations_[windowed ? 1 : 0];
  if (known.first.defined() && known.first.size(0) == n_tokens) return known;
  std::vector<float> divisors = rope_divisors_;
  if (divisors.empty() && hparams_.rope_scaling.type == models::RopeScalingType::kLlama3) divisors = models::llama3_rope_freqs(hparams_);
  const auto of = windowed ? models::window_rope_frequencies : models::rope_frequencies;
  const auto frequencies = of(hparams_, divisors.empty() ? nullptr : divisors.data(), static_cast<uint64_t>(n_tokens));
  const at::Tensor per_pair = at::tensor(frequencies.per_pair, at::kDouble);
  const at::Tensor angles = at::outer(at::arange(n_tokens, at::kDouble), per_pair);
  known = {(angles.cos() * frequencies.magnitude).to(compute_.wide_options()),
                (angles.sin() * frequencies.magnitude).to(compute_.wide_options())};
  return known;
}

}  // namespace shoehorn::compress
