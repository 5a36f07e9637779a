#include "compress/heal/lora.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace shoehorn::compress {
namespace {

using models::Role;

constexpr std::pair<Role, std::string_view> kProjections[] = {
    {Role::kAttnQ, "q_proj"},  {Role::kAttnK, "k_proj"},    {Role::kAttnV, "v_proj"},      {Role::kAttnOutput, "o_proj"},
    {Role::kFfnGate, "gate_proj"}, {Role::kFfnUp, "up_proj"}, {Role::kFfnDown, "down_proj"},
};

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): well mixed seeds from counters.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

std::string projection_module(Role role) {
  const bool attention = role == Role::kAttnQ || role == Role::kAttnK || role == Role::kAttnV || role == Role::kAttnOutput;
  return (attention ? "self_attn." : "mlp.") + std::string(projection_name(role));
}

}  // namespace

std::string_view projection_name(Role role) {
  for (const auto& [known, name] : kProjections) {
    if (known == role) return name;
  }
  return "";
}

Expected<std::vector<Role>> parse_projections(const std::vector<std::string>& names) {
  std::vector<Role> roles;
  for (const std::string& name : names) {
    const auto found = std::ranges::find(kProjections, name, &std::pair<Role, std::string_view>::second);
    if (found == std::end(kProjections)) {
      return fail(ErrorCode::kInvalid, "--targets {}: there are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj", name);
    }
    if (std::ranges::find(roles, found->first) == roles.end()) roles.push_back(found->first);
  }
  std::sort(roles.begin(), roles.end());
  return roles;
}

LoraAdapter::LoraAdapter(const BlockLoader& loader, const LoraSettings& settings, uint64_t seed, const Compute& compute)
    : settings_(settings) {
  std::mt19937_64 random(mix(seed));
  const auto has = [](const std::vector<Role>& roles, Role role) { return std::ranges::find(roles, role) != roles.end(); };
  for (int layer = 0; layer < static_cast<int>(loader.hparams().n_layer); ++layer) {
    for (const auto& [role, name] : kProjections) {
      const io::CheckpointTensor* weight = loader.find(layer, role);
      if (weight == nullptr) continue;
      const auto n_out = static_cast<int64_t>(weight->shape[0]), n_in = static_cast<int64_t>(weight->shape[1]);
      if (has(settings.full, role)) {
        pairs_[{layer, role}].delta = at::zeros({n_out, n_in}, compute.wide_options()).requires_grad_(true);
        continue;
      }
      if (!has(settings.targets, role)) continue;
      at::Tensor a = at::empty({settings.rank, n_in}, at::kFloat);
      const float bound = 1 / std::sqrt(static_cast<float>(n_in));
      float* value = a.data_ptr<float>();
      for (int64_t i = 0; i < a.numel(); ++i) {
        // 24 random bits: the same float on every machine.
        value[i] = (static_cast<float>(random() >> 40) * 0x1p-23f - 1) * bound;
      }
      LoraPair& pair = pairs_[{layer, role}];
      pair.a = a.to(compute.wide_options()).requires_grad_(true);
      pair.b = at::zeros({n_out, settings.rank}, compute.wide_options()).requires_grad_(true);
    }
  }
}

std::vector<at::Tensor> LoraPair::tensors() const {
  if (delta.defined()) return {delta};
  return {a, b};
}

int64_t LoraAdapter::n_parameters() const {
  int64_t n = 0;
  for (const at::Tensor& tensor : parameters()) n += tensor.numel();
  return n;
}

std::vector<at::Tensor> LoraAdapter::parameters(int layer) const {
  std::vector<at::Tensor> out;
  for (auto it = pairs_.lower_bound({layer, static_cast<Role>(0)}); it != pairs_.end() && it->first.first == layer; ++it) {
    for (at::Tensor& tensor : it->second.tensors()) out.push_back(std::move(tensor));
  }
  return out;
}

std::vector<at::Tensor> LoraAdapter::parameters() const {
  std::vector<at::Tensor> out;
  for (const auto& [where, pair] : pairs_) {
    for (at::Tensor& tensor : pair.tensors()) out.push_back(std::move(tensor));
  }
  return out;
}

Projection LoraAdapter::projection(int layer, const TensorSet& weights, const DropoutDraw& draw) const {
  return [this, layer, &weights, draw](Role role, const at::Tensor& x) {
    const at::Tensor y = project(weights, role, x);
    const auto pair = pairs_.find({layer, role});
    if (pair == pairs_.end()) return y;
    if (pair->second.delta.defined()) return y + at::linear(x, pair->second.delta.to(x.scalar_type()));
    at::Tensor input = x;
    if (draw.training && settings_.dropout > 0) {
      const uint64_t where = mix(draw.seed) ^ mix(draw.step * 4099 + draw.micro_batch) ^ mix(static_cast<uint64_t>(layer) * 64 + static_cast<uint64_t>(role) + (uint64_t{1} << 40));
      at::Generator generator = at::detail::createCPUGenerator(where);
      at::Tensor mask = at::empty(x.sizes(), at::TensorOptions().dtype(at::kFloat)).bernoulli_(1 - settings_.dropout, generator);
      input = x * (mask / (1 - settings_.dropout)).to(x.options());
    }
    const at::Tensor inner = at::linear(input, pair->second.a.to(x.scalar_type()));
    return y + at::linear(inner, pair->second.b.to(x.scalar_type())) * scale();
  };
}

at::Tensor LoraAdapter::merged(int layer, Role role, const at::Tensor& weight) const {
  const auto pair = pairs_.find({layer, role});
  if (pair == pairs_.end()) return weight;
  at::NoGradGuard no_gradient;
  const LoraPair& p = pair->second;
  if (p.delta.defined()) return weight.to(p.delta.options()) + p.delta;
  return at::addmm(weight.to(p.a.options()), p.b, p.a, 1, scale());
}

NamedTensors LoraAdapter::named() const {
  NamedTensors out;
  for (const auto& [where, pair] : pairs_) {
    const std::string module = fmt::format("layers.{}.{}", where.first, projection_module(where.second));
    if (pair.delta.defined()) {
      out[module + ".delta"] = pair.delta.detach();
      continue;
    }
    out[module + ".lora_A.weight"] = pair.a.detach();
    out[module + ".lora_B.weight"] = pair.b.detach();
  }
  return out;
}

}  // namespace shoehorn::compress
