// Optimal brain surgeon on whole units: take out what the output can best do without, and let the others make up for it. Structured
// OBS as in ZipLM (Kurtic et al. 2023, arXiv:2302.04089, eq. 4-6) and OSSCAR (Meng et al. 2024, arXiv:2403.12983), ending with the
// least-squares refit to the dense weights.
//
// X [rows, columns] is what the output projection reads, W0 [columns, n_embd] its dense weights, H = X'X + ridge * I. A unit g costs
// tr(W_g' ([H^-1]_gg)^-1 W_g) / 2. At the end W_S = H_SS^-1 (G + ridge W0)_S, so that the ridge pulls to W0 and not to 0, with G = X'Y: Y
// is X W0, or what brings the residual stream to where the dense model has it, which makes up for errors of the layers before as well.
//
// Choosing and fitting have ridges of their own. The fit has nearly as many equations as it likes and is best trusted; the choice decides
// about units that this text seldom uses and another one may need, and a ridge as large as a usual column keeps those with large weights.
#include <cmath>
#include <limits>

#include "compress/linear_algebra.h"
#include "compress/prune/method.h"

namespace shoehorn::compress {
namespace {

/// What is added to the diagonal of X'X for the fit. A column that is always zero carries nothing; the ridge keeps it regular.
double fit_ridge(const LayerEvidence& e, const PruneSettings& settings) {
  return std::max(1e-12, settings.damping * e.inputs.gram.diagonal().mean().item<double>());
}

/// The same for the choice. The median, since a few columns can be larger than all others together.
double choice_ridge(const LayerEvidence& e, const PruneSettings& settings) {
  return std::max(fit_ridge(e, settings), settings.choice_damping * e.inputs.gram.diagonal().median().item<double>());
}

/// G + ridge W0. Gram matrices exist in single precision: they are multiplied in pieces of double.
at::Tensor target_of(const LayerEvidence& e, double ridge, const at::Tensor& w0) {
  if (e.inputs.cross.defined()) return e.inputs.cross.to(at::kDouble) + w0 * ridge;
  constexpr int64_t kRows = 512;
  at::Tensor out = w0 * ridge;
  for (int64_t first = 0; first < out.size(0); first += kRows) {
    const int64_t n = std::min(kRows, out.size(0) - first);
    out.narrow(0, first, n).addmm_(e.inputs.gram.narrow(0, first, n).to(at::kDouble), w0);
  }
  return out;
}

/// The cost of taking out each unit, [n_units]. elements [n_units, n_elements].
at::Tensor costs(const at::Tensor& inverse, const at::Tensor& w, const at::Tensor& elements) {
  if (elements.size(1) == 1) return w.square().sum(1) / (2 * inverse.diagonal());
  at::Tensor out = at::empty({elements.size(0)}, w.options());
  for (int64_t u = 0; u < elements.size(0); ++u) {
    const at::Tensor g = elements[u], w_g = w.index_select(0, g);
    const at::Tensor block = inverse.index_select(0, g).index_select(1, g);
    out[u] = (w_g * at::linalg_solve(block, w_g)).sum() / 2;
  }
  return out;
}

Expected<Decision> decide_obs(const LayerEvidence& e, const PruneSettings& settings, int64_t n) {
  const at::Tensor elements = e.target->elements(e.shape, e.head_dim, e.target->output_dim).to(e.inputs.gram.device());
  const int64_t n_units = elements.size(0), to_go = n_units - n;
  at::Tensor w0 = e.weights[e.target->output].t().to(at::kDouble).contiguous();
  Decision decision;
  std::vector<bool> alive(static_cast<size_t>(n_units), true);
  if (to_go > 0) {
    const double added = choice_ridge(e, settings);
    at::Tensor inverse = e.inputs.gram.to(at::kDouble);
    inverse.diagonal().add_(added);
    SHOEHORN_RETURN_IF_ERROR(invert_positive(inverse));
    at::Tensor w = e.inputs.cross.defined() ? at::mm(inverse, target_of(e, added, w0)) : w0.clone();
    const int64_t rounds = std::min(settings.rounds, to_go);
    for (int64_t round = 0; round < rounds; ++round) {
      const int64_t now = to_go * (round + 1) / rounds - to_go * round / rounds;
      at::Tensor cost = costs(inverse, w, elements).to(at::kCPU);
      for (int64_t u = 0; u < n_units; ++u) {
        if (!alive[static_cast<size_t>(u)]) cost[u] = std::numeric_limits<double>::infinity();
      }
      if (cost.isnan().any().item<bool>()) return fail(ErrorCode::kInvalid, "the cost of a unit is not a number");
      const at::Tensor go = std::get<1>(cost.sort(c10::optional<bool>(true), 0, false)).narrow(0, 0, now);
      for (int64_t i = 0; i < now; ++i) alive[static_cast<size_t>(go[i].item<int64_t>())] = false;
      // The rest makes up for it: W -= H^-1_:R ([H^-1]_RR)^-1 W_R, and H^-1 loses R the same way.
      const at::Tensor gone = elements.index_select(0, go.to(elements.device())).reshape({-1});
      at::Tensor rows = inverse.index_select(0, gone);
      const at::Tensor columns = rows.t().contiguous();
      at::Tensor block = rows.index_select(1, gone), w_gone = w.index_select(0, gone);
      const at::Tensor solved_w = at::linalg_solve(block, w_gone), solved = at::linalg_solve(block, rows);
      w.addmm_(columns, solved_w, 1, -1);
      inverse.addmm_(columns, solved, 1, -1);
      w.index_fill_(0, gone, 0);
    }
  }
  for (int64_t u = 0; u < n_units; ++u) {
    if (alive[static_cast<size_t>(u)]) decision.units.push_back(u);
  }
  const at::Tensor kept = std::get<0>(elements.index_select(0, at::tensor(decision.units, at::kLong).to(elements.device())).reshape({-1}).sort());
  const double added = fit_ridge(e, settings);
  at::Tensor refit = target_of(e, added, w0).index_select(0, kept);
  at::Tensor h = e.inputs.gram.index_select(0, kept).index_select(1, kept).to(at::kDouble);
  h.diagonal().add_(added);
  SHOEHORN_RETURN_IF_ERROR(solve_positive(h, refit));
  decision.replaced[e.target->output] = refit.t().to(e.weights[e.target->output].scalar_type()).contiguous();
  return decision;
}

}  // namespace

extern const Method obs;
const Method obs{
    .name = "obs",
    .summary = "what the output can best do without, the rest refitted to make up for it",
    .evidence = [](const PruneSettings&) { return Evidence::kGram; },
    .per_sample_gradients = nullptr,
    .adds_bias = false,
    .scores = nullptr,
    .decide = decide_obs,
    .default_samples = 0,  // four tokens a column: decided by the model's width
    .default_tokens = 512,
};

}  // namespace shoehorn::compress
