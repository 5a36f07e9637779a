// How much the output varies with a unit, and a bias for what it gave on average: FLAP, An et al. 2023 (arXiv:2312.11983), eq. 4-6:
// importance Var(X_j) |W_j|^2, bias = sum over pruned j of mean(X_j) W_j.
#include "compress/prune/method.h"

namespace shoehorn::compress {
namespace {

at::Tensor mean_of(const InputStatistics& inputs) { return inputs.sum / static_cast<double>(inputs.n_rows); }

at::Tensor scores(const LayerEvidence& e, const PruneSettings&) {
  const at::Tensor variance = e.inputs.sum_squares / static_cast<double>(e.inputs.n_rows) - mean_of(e.inputs).square();
  const at::Tensor per_column = variance.clamp_min(0) * e.weights[e.target->output].square().sum(0).to(at::kDouble);
  return sum_over_units(*e.target, e.shape, e.head_dim, e.target->output_dim, per_column);
}

Expected<Decision> decide_flap(const LayerEvidence& e, const PruneSettings& settings, int64_t n) {
  Decision decision;
  decision.scores = scores(e, settings);
  SHOEHORN_TRY(decision.units, highest(decision.scores, n));
  const at::Tensor elements = e.target->elements(e.shape, e.head_dim, e.target->output_dim);
  const at::Tensor kept = elements.index_select(0, at::tensor(decision.units, at::kLong)).reshape({-1});
  const at::Tensor pruned_mean = mean_of(e.inputs).index_fill(0, kept.to(e.inputs.sum.device()), 0);
  at::Tensor bias = e.weights[e.target->output].to(at::kDouble).matmul(pruned_mean);
  const models::Role role = bias_of(e.target->output);
  if (e.weights[role].defined()) bias = bias + e.weights[role].to(at::kDouble);
  decision.replaced[role] = bias.to(e.weights[e.target->output].scalar_type());
  return decision;
}

}  // namespace

extern const Method flap;
const Method flap{
    .name = "flap",
    .summary = "variance of the inputs times the output weights, and a bias for what was taken out",
    .evidence = [](const PruneSettings&) { return Evidence::kMoments; },
    .per_sample_gradients = nullptr,
    .adds_bias = true,
    .scores = scores,
    .decide = decide_flap,
    .default_samples = 128,
    .default_tokens = 512,
};

}  // namespace shoehorn::compress
