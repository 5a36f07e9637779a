// Weights times the norm of what they read, summed over the columns of a unit: Sun et al. 2023 (arXiv:2306.11695), eq. 1, taken
// structured on the output projection.
#include "compress/prune/method.h"

namespace shoehorn::compress {

extern const Method wanda;
const Method wanda{
    .name = "wanda",
    .summary = "output weights times the norm of their inputs",
    .evidence = [](const PruneSettings&) { return Evidence::kMoments; },
    .per_sample_gradients = nullptr,
    .adds_bias = false,
    .scores = [](const LayerEvidence& e, const PruneSettings&) {
      const at::Tensor per_column = e.weights[e.target->output].abs().sum(0).to(at::kDouble) * e.inputs.sum_squares.sqrt();
      return sum_over_units(*e.target, e.shape, e.head_dim, e.target->output_dim, per_column);
    },
    .decide = nullptr,
    .default_samples = 128,
    .default_tokens = 512,
};

}  // namespace shoehorn::compress
