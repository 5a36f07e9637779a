// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2) with a learning-rate schedule.
#pragma once

#include <string>
#include <vector>

#include "compress/torch.h"

namespace shoehorn::compress {

struct AdamWSettings {
  double lr = 1e-4;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double clip = 1;                 ///< gradients of a larger norm are scaled down to it; 0: never
  int64_t warmup = 100;            ///< steps until the full rate
  std::string schedule = "linear"; ///< after that: linear or cosine to 0 at the last step, or constant
};

/// The rate of step `step` (from 0) of `n_steps`.
double learning_rate(const AdamWSettings& settings, int64_t step, int64_t n_steps);

class AdamW {
 public:
  /// rates: of each parameter, as a multiple of the settings'; empty: 1.
  AdamW(std::vector<at::Tensor> parameters, AdamWSettings settings, std::vector<double> rates = {});

  /// One step down `gradients`, given in the order of the parameters. Returns their norm before clipping; nothing is changed when it
  /// is not finite.
  double step(const std::vector<at::Tensor>& gradients, int64_t step, int64_t n_steps);

  /// First and second moments, in the order of the parameters.
  std::vector<at::Tensor>& first() { return first_; }
  std::vector<at::Tensor>& second() { return second_; }

 private:
  std::vector<at::Tensor> parameters_, first_, second_;
  AdamWSettings settings_;
  std::vector<double> rates_;
};

}  // namespace shoehorn::compress
