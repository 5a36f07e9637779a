// Logits as probabilities.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "tokenizer/vocab.h"

namespace shoehorn::eval {

/// log(sum exp(logits)), stable.
inline double log_sum_exp(std::span<const float> logits) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - max));
  return static_cast<double>(max) + std::log(sum);
}

inline double log_probability(std::span<const float> logits, tokenizer::Token token) {
  return static_cast<double>(logits[static_cast<size_t>(token)]) - log_sum_exp(logits);
}

/// KL(p || q) in nats of two rows of logits whose log_sum_exp are given.
inline double kl_divergence(std::span<const float> p, double p_norm, std::span<const float> q, double q_norm) {
  double kl = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = static_cast<double>(p[i]) - p_norm;
    if (log_p > -40) kl += std::exp(log_p) * (log_p - (static_cast<double>(q[i]) - q_norm));
  }
  return kl;
}

}  // namespace shoehorn::eval
