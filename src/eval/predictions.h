// How well tokens are predicted, and how far from another model's predictions: perplexity and KL divergence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tokenizer/vocab.h"

namespace shoehorn::eval {

/// Errors are one standard error of the mean over predictions.
struct PredictionResult {
  double ppl = 0, ppl_err = 0;
  uint64_t tokens = 0;  ///< predictions counted
  // Against a base model on the same predictions; KL(base || model) in nats.
  bool has_base = false;
  double base_ppl = 0;
  double kld_mean = 0, kld_err = 0, kld_p99 = 0, kld_max = 0;
  double top1 = 0;  ///< share of predictions whose most likely token is the base's
};

/// Running mean and standard error.
class Mean {
 public:
  void add(double x);
  double mean() const { return n_ == 0 ? 0 : sum_ / static_cast<double>(n_); }
  double error() const;
  double sum() const { return sum_; }
  uint64_t n() const { return n_; }

 private:
  double sum_ = 0, sum_squared_ = 0;
  uint64_t n_ = 0;
};

/// Adds up predictions one at a time.
class Predictions {
 public:
  /// logits [n_vocab] and, for all predictions or for none, the base model's (else empty). False, and nothing is added, when one
  /// is not finite.
  bool add(std::span<const float> logits, std::span<const float> base_logits, tokenizer::Token target);
  PredictionResult result() const;
  // Sums so far: negative log-likelihoods and divergences in nats, predictions whose most likely token is the base's.
  double nll() const { return nll_.sum(); }
  double kl() const { return kl_.sum(); }
  uint64_t same_top() const { return same_top_; }
  uint64_t tokens() const { return nll_.n(); }

 private:
  Mean nll_, base_nll_, kl_;
  std::vector<double> kls_;
  uint64_t same_top_ = 0;
};

}  // namespace shoehorn::eval
