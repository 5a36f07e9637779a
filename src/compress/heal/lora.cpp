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

/// The projections of one layer that are the rows of one matrix, in their order.
struct Module {
  std::string name;
  std::vector<const convert::OpenedCheckpoint::Tensor*> parts;
};

std::vector<Module> modules_of(const BlockLoader& loader, int layer) {
  std::vector<Module> out;
  for (const auto& [role, projection] : kProjections) {
    for (const auto& tensor : loader.checkpoint().tensors) {
      if (tensor.spec.layer != layer || tensor.spec.rule->role != role) continue;
      const std::string name = tensor.spec.hf_name.substr(0, tensor.spec.hf_name.rfind('.'));
      if (out.empty() || out.back().name != name) out.push_back({name, {}});
      out.back().parts.push_back(&tensor);
    }
  }
  return out;
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

std::vector<Role> all_projections() {
  std::vector<Role> roles;
  for (const auto& [role, name] : kProjections) roles.push_back(role);
  return roles;
}

LoraAdapter::LoraAdapter(const BlockLoader& loader, const LoraSettings& settings, uint64_t seed, const Compute& compute)
    : settings_(settings) {
  std::mt19937_64 random(mix(seed));
  for (int layer = 0; layer < static_cast<int>(loader.hparams().n_layer); ++layer) {
    for (const Module& module : modules_of(loader, layer)) {
      const models::WeightId first = module.parts.front()->spec.id();
      const auto asked_for = [&](const std::vector<Role>& roles) {
        return std::ranges::any_of(module.parts, [&](const auto* part) { return std::ranges::find(roles, part->spec.rule->role) != roles.end(); });
      };
      const bool full = asked_for(settings.full);
      if (!full && !asked_for(settings.targets)) continue;
      int64_t n_out = 0;
      for (const auto* part : module.parts) {
        const auto n = static_cast<int64_t>(part->spec.n_rows());
        places_.insert({{layer, part->spec.id()}, {first, n_out, n}});
        n_out += n;
      }
      const auto n_in = static_cast<int64_t>(module.parts.front()->spec.shape[0]);
      LoraPair& pair = pairs_[{layer, first}];
      pair.module = module.name;
      if (full) {
        pair.delta = at::zeros({n_out, n_in}, compute.wide_options()).requires_grad_(true);
        if (settings.full_block > 0) pair.log_scale = at::zeros({n_out, n_in / settings.full_block}, compute.wide_options()).requires_grad_(true);
        continue;
      }
      at::Tensor a = at::empty({settings.rank, n_in}, at::kFloat);
      const float bound = 1 / std::sqrt(static_cast<float>(n_in));
      float* value = a.data_ptr<float>();
      for (int64_t i = 0; i < a.numel(); ++i) {
        // 24 random bits: the same float on every machine.
        value[i] = (static_cast<float>(random() >> 40) * 0x1p-23f - 1) * bound;
      }
      pair.a = a.to(compute.wide_options()).requires_grad_(true);
      pair.b = at::zeros({n_out, settings.rank}, compute.wide_options()).requires_grad_(true);
    }
  }
}

std::vector<at::Tensor> LoraPair::tensors() const {
  if (log_scale.defined()) return {delta, log_scale};
  if (delta.defined()) return {delta};
  return {a, b};
}

at::Tensor LoraPair::whole(const at::Tensor& w, int64_t first) const {
  at::NoGradGuard no_gradient;
  const int64_t n_rows = w.size(0);
  at::Tensor sum = w.to(delta.options()) + delta.narrow(0, first, n_rows);
  if (!log_scale.defined()) return sum;
  const at::Tensor factors = log_scale.narrow(0, first, n_rows).exp().unsqueeze(2);
  return sum.view({n_rows, factors.size(1), -1}).mul(factors).view_as(sum);
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

LoraAdapter::Rows LoraAdapter::rows(int layer, models::WeightId id) const {
  const auto place = places_.find({layer, id});
  if (place == places_.end()) return {};
  return {&pairs_.at({layer, place->second.module}), place->second.first, place->second.n};
}

std::vector<LoraAdapter::Whole> LoraAdapter::whole_modules(int layer) const {
  std::map<models::WeightId, std::map<int64_t, models::WeightId>> by_row;  // of each module
  const auto begin_of = [&](const auto& by_weight) { return by_weight.lower_bound({layer, static_cast<Role>(0)}); };
  for (auto it = begin_of(places_); it != places_.end() && it->first.first == layer; ++it) by_row[it->second.module].insert({it->second.first, it->first.second});
  std::vector<Whole> out;
  for (auto it = begin_of(pairs_); it != pairs_.end() && it->first.first == layer; ++it) {
    if (!it->second.delta.defined()) continue;
    out.push_back({&it->second, {}});
    for (const auto& [row, id] : by_row.at(it->first.second)) out.back().parts.push_back(id);
  }
  return out;
}

Projection LoraAdapter::projection(int layer, const TensorSet& weights, const DropoutDraw& draw) const {
  return [this, layer, &weights, draw](models::WeightId id, const at::Tensor& x) {
    const at::Tensor y = project(weights, id, x);
    const Rows trained = rows(layer, id);
    if (trained.pair == nullptr) return y;
    if (trained.pair->delta.defined()) return y + at::linear(x, trained.delta().to(x.scalar_type()));
    at::Tensor input = x;
    if (draw.training && settings_.dropout > 0) {
      const models::WeightId module = places_.at({layer, id}).module;
      const uint64_t place = static_cast<uint64_t>(layer) * 64 + static_cast<uint64_t>(module.role) + (static_cast<uint64_t>(module.expert + 1) << 41);
      const uint64_t where = mix(draw.seed) ^ mix(draw.step * 4099 + draw.micro_batch) ^ mix(place + (uint64_t{1} << 40));
      at::Generator generator = at::detail::createCPUGenerator(where);
      at::Tensor mask = at::empty(x.sizes(), at::TensorOptions().dtype(at::kFloat)).bernoulli_(1 - settings_.dropout, generator);
      input = x * (mask / (1 - settings_.dropout)).to(x.options());
    }
    const at::Tensor inner = at::linear(input, trained.pair->a.to(x.scalar_type()));
    return y + at::linear(inner, trained.b().to(x.scalar_type())) * scale();
  };
}

at::Tensor LoraAdapter::merged(int layer, models::WeightId id, const at::Tensor& weight) const {
  const Rows trained = rows(layer, id);
  if (trained.pair == nullptr) return weight;
  at::NoGradGuard no_gradient;
  const LoraPair& p = *trained.pair;
  if (p.delta.defined()) return trained.whole(weight);
  return at::addmm(weight.to(p.a.options()), trained.b(), p.a, 1, scale());
}

NamedTensors LoraAdapter::named() const {
  NamedTensors out;
  for (const auto& [where, pair] : pairs_) {
    if (pair.delta.defined()) {
      out[pair.module + ".delta"] = pair.delta.detach();
      if (pair.log_scale.defined()) out[pair.module + ".log_scale"] = pair.log_scale.detach();
      continue;
    }
    out[pair.module + ".lora_A.weight"] = pair.a.detach();
    out[pair.module + ".lora_B.weight"] = pair.b.detach();
  }
  return out;
}

}  // namespace shoehorn::compress
