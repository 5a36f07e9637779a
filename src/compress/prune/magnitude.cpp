// Size of the weights: what every other method must beat.
#include "compress/prune/method.h"

namespace shoehorn::compress {

extern const Method magnitude;
const Method magnitude{
    .name = "magnitude",
    .summary = "size of the weights (--norm l1 or l2)",
    .evidence = [](const PruneSettings&) { return Evidence::kWeights; },
    .per_sample_gradients = nullptr,
    .adds_bias = false,
    .scores = [](const LayerEvidence& e, const PruneSettings& settings) {
      const bool l1 = settings.norm == "l1";
      return sum_salience(e, [&](models::Role role) { return l1 ? e.weights[role].abs() : e.weights[role].square(); });
    },
    .decide = nullptr,
    .default_samples = 0,
    .default_tokens = 0,
};

}  // namespace shoehorn::compress
