#include "compress/prune/target.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace shoehorn::compress {
namespace {

using models::Dim;
using models::LayerShape;
using models::Role;

at::Tensor numbers(int64_t n) { return at::arange(n, at::kLong); }

at::Tensor mlp_elements(const LayerShape& shape, int64_t, Dim dim) {
  return dim == Dim::kFf ? numbers(shape.n_ff).view({-1, 1}) : at::Tensor();
}

/// A KV head takes the consecutive query heads that read it.
at::Tensor kv_group_elements(const LayerShape& shape, int64_t head_dim, Dim dim) {
  if (dim == Dim::kQ) return numbers(shape.n_head * head_dim).view({shape.n_head_kv, -1});
  if (dim == Dim::kKv) return numbers(shape.n_head_kv * head_dim).view({shape.n_head_kv, -1});
  return {};
}

/// Unit u is the u-th query head of every KV head.
at::Tensor query_head_elements(const LayerShape& shape, int64_t head_dim, Dim dim) {
  if (dim != Dim::kQ) return {};
  const int64_t group = shape.n_head / shape.n_head_kv;
  return numbers(shape.n_head * head_dim).view({shape.n_head_kv, group, head_dim}).transpose(0, 1).reshape({group, -1});
}

LayerShape with_sizes(LayerShape shape, uint32_t n_head, uint32_t n_head_kv, uint32_t n_ff) {
  shape.n_head = n_head;
  shape.n_head_kv = n_head_kv;
  shape.n_ff = n_ff;
  return shape;
}

constexpr Target kTargets[] = {
    {"mlp", "neurons: gate row, up row and down column", Role::kFfnDown, Dim::kFf, 256,
     [](const LayerShape& s) { return int64_t{s.n_ff}; }, mlp_elements,
     [](const LayerShape& s, uint32_t n) { return with_sizes(s, s.n_head, s.n_head_kv, n); }},
    {"attention", "KV heads with the query heads that read them", Role::kAttnOutput, Dim::kQ, 1,
     [](const LayerShape& s) { return int64_t{s.n_head_kv}; }, kv_group_elements,
     [](const LayerShape& s, uint32_t n) { return with_sizes(s, s.n_head / s.n_head_kv * n, n, s.n_ff); }},
    {"heads", "one query head of every KV head", Role::kAttnOutput, Dim::kQ, 1,
     [](const LayerShape& s) { return int64_t{s.n_head_kv == 0 ? 0 : s.n_head / s.n_head_kv}; }, query_head_elements,
     [](const LayerShape& s, uint32_t n) { return with_sizes(s, s.n_head_kv * n, s.n_head_kv, s.n_ff); }},
};

}  // namespace

std::span<const Target> targets() { return kTargets; }

const Target* find_target(std::string_view name) {
  const auto found = std::ranges::find(kTargets, name, &Target::name);
  return found == std::end(kTargets) ? nullptr : found;
}

at::Tensor sum_over_units(const Target& target, const LayerShape& shape, int64_t head_dim, Dim dim, const at::Tensor& values) {
  const at::Tensor elements = target.elements(shape, head_dim, dim);
  return values.index_select(0, elements.reshape({-1}).to(values.device())).view(elements.sizes()).sum(1);
}

std::vector<int> owners(const Target& target, const models::Hparams& h) {
  if (target.output_dim != Dim::kFf || h.n_expert == 0) return {-1};
  std::vector<int> experts(h.n_expert);
  std::iota(experts.begin(), experts.end(), 0);
  return experts;
}

std::string owned_name(const Target& target, int expert) { return expert < 0 ? std::string(target.name) : fmt::format("{} {}", target.name, expert); }

void keep_units(const Target& target, const KeptUnits& kept_units, int64_t head_dim, ChangedLayer& layer) {
  const auto kept = [&](Dim dim, const std::vector<int64_t>& units, at::Tensor& indices) {
    const at::Tensor elements = target.elements(layer.shape, head_dim, dim);
    if (!elements.defined()) return;
    const at::Tensor chosen = std::get<0>(elements.index_select(0, at::tensor(units, at::kLong)).reshape({-1}).sort());
    // Indices are into the stored tensor, of which an earlier cut may have left a part.
    indices = indices.defined() ? indices.index_select(0, chosen) : chosen;
  };
  for (const auto& [expert, units] : kept_units) {
    if (target.output_dim == Dim::kFf) {
      kept(Dim::kFf, units, layer.kept_ff[expert]);
    } else {
      kept(Dim::kQ, units, layer.kept_q);
      kept(Dim::kKv, units, layer.kept_kv);
    }
  }
  layer.shape = target.shape(layer.shape, static_cast<uint32_t>(kept_units.begin()->second.size()));
}

int64_t kept_units(int64_t n, double ratio, int64_t multiple) {
  const auto rounded = static_cast<int64_t>(std::llround(static_cast<double>(n) * (1 - ratio) / static_cast<double>(multiple))) * multiple;
  return std::min(n, std::max(multiple, rounded));
}

}  // namespace shoehorn::compress
