// The change of the loss when a weight goes, by its Taylor series: LLM-Pruner, Ma et al. 2023 (arXiv:2305.11627), eq. 3-5.
// g is the gradient of the mean loss, F = 1/N sum over samples of their squared gradients.
#include "compress/prune/method.h"

namespace shoehorn::compress {
namespace {

at::Tensor scores(const LayerEvidence& e, const PruneSettings& settings) {
  const auto first = [&](models::Role role) { return e.weights[role] * e.gradient[role]; };
  const auto second = [&](models::Role role) { return e.weights[role].square() * e.fisher[role]; };
  if (settings.taylor == "vectorize") return sum_salience(e, first, true);
  return sum_salience(e, [&](models::Role role) {
    if (settings.taylor == "second") return second(role).abs();
    if (settings.taylor == "mix") return (first(role) - second(role) / 2).abs();
    return first(role).abs();
  });
}

}  // namespace

extern const Method taylor;
const Method taylor{
    .name = "taylor",
    .summary = "change of the loss, from its gradients (--taylor first, second, mix or vectorize)",
    .evidence = [](const PruneSettings&) { return Evidence::kGradients; },
    .per_sample_gradients = [](const PruneSettings& settings) { return settings.taylor == "second" || settings.taylor == "mix"; },
    .adds_bias = false,
    .scores = scores,
    .decide = nullptr,
    .default_samples = 10,
    .default_tokens = 64,
};

}  // namespace shoehorn::compress
