// The frequencies of rotary position embedding (Su et al. 2021, arXiv:2104.09864) with linear, YaRN (Peng et al. 2023,
// arXiv:2309.00071), Llama 3 and LongRoPE scaling.
#pragma once

#include <vector>

#include "models/model.h"

namespace shoehorn::models {

struct RopeFrequencies {
  std::vector<double> per_pair;  ///< [n_rot / 2] radians per position
  double magnitude = 1;          ///< cosines and sines are multiplied by this
};

/// freq_divisors: the rope_freqs tensor of llama3 scaling, [n_rot / 2], or nullptr. n_ctx: positions that a sequence may have; LongRoPE
/// has other frequencies where they are more than the original context (Ding et al. 2024, arXiv:2402.13753).
RopeFrequencies rope_frequencies(const Hparams& hparams, const float* freq_divisors, uint64_t n_ctx);

/// The same of the layers with a window, which may have a base of their own (Hparams::window_rope_theta).
RopeFrequencies window_rope_frequencies(const Hparams& hparams, const float* freq_divisors, uint64_t n_ctx);

}  // namespace shoehorn::models
