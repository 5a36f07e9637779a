#include "compress/prune/method.h"

#include <algorithm>

namespace shoehorn::compress {

#define SHOEHORN_PRUNE_METHOD(name) extern const Method name;
#include "compress/prune/methods.inc"
#undef SHOEHORN_PRUNE_METHOD

namespace {

constexpr const Method* kMethods[] = {
#define SHOEHORN_PRUNE_METHOD(name) &name,
#include "compress/prune/methods.inc"
#undef SHOEHORN_PRUNE_METHOD
};

}  // namespace

std::span<const Method* const> methods() { return kMethods; }

const Method* find_method(std::string_view name) {
  const auto found = std::ranges::find_if(kMethods, [&](const Method* m) { return m->name == name; });
  return found == std::end(kMethods) ? nullptr : *found;
}

Expected<std::vector<int64_t>> highest(const at::Tensor& scores, int64_t n) {
  const at::Tensor exact = scores.to(at::kCPU).to(at::kDouble).contiguous();
  if (!exact.isfinite().all().item<bool>()) return fail(ErrorCode::kInvalid, "an importance is not finite: the weights or the loss hold NaN or Inf");
  const double* value = exact.data_ptr<double>();
  std::vector<int64_t> order(static_cast<size_t>(exact.size(0)));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return value[a] > value[b]; });
  order.resize(static_cast<size_t>(n));
  std::sort(order.begin(), order.end());
  return order;
}

Expected<Decision> decide(const Method& method, const LayerEvidence& evidence, const PruneSettings& settings, int64_t n) {
  if (method.decide != nullptr) return method.decide(evidence, settings, n);
  Decision decision;
  decision.scores = method.scores(evidence, settings);
  SHOEHORN_TRY(decision.units, highest(decision.scores, n));
  return decision;
}

at::Tensor sum_salience(const LayerEvidence& e, const std::function<at::Tensor(models::Role)>& salience, bool magnitude_of_sums) {
  at::Tensor total;
  for (const models::TensorRule& rule : e.architecture->tensors) {
    if (rule.per_expert != (e.expert >= 0) || !e.weights[rule.role].defined()) continue;
    for (const models::Dim dim : {rule.rows, rule.cols}) {
      if (!e.target->elements(e.shape, e.head_dim, dim).defined()) continue;
      at::Tensor values = salience(rule.role);
      if (rule.rows != models::Dim::kNone) values = values.sum(dim == rule.rows ? 1 : 0);
      if (magnitude_of_sums) values = values.abs();
      const at::Tensor per_unit = sum_over_units(*e.target, e.shape, e.head_dim, dim, values).to(at::kDouble);
      total = total.defined() ? total + per_unit : per_unit;
    }
  }
  return total;
}

}  // namespace shoehorn::compress
