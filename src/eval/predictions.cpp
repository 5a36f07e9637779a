#include "eval/predictions.h"

#include <algorithm>
#include <cmath>

#include "engine/sampler.h"
#include "eval/log_softmax.h"

namespace shoehorn::eval {

void Mean::add(double x) {
  sum_ += x;
  sum_squared_ += x * x;
  ++n_;
}

double Mean::error() const {
  if (n_ < 2) return 0;
  const double variance = sum_squared_ / static_cast<double>(n_) - mean() * mean();
  return std::sqrt(std::max(0.0, variance) / static_cast<double>(n_ - 1));
}

bool Predictions::add(std::span<const float> logits, std::span<const float> base_logits, tokenizer::Token target) {
  const double norm = log_sum_exp(logits);
  const double base_norm = base_logits.empty() ? 0 : log_sum_exp(base_logits);
  if (!std::isfinite(norm) || !std::isfinite(base_norm)) return false;
  const auto i = static_cast<size_t>(target);
  nll_.add(norm - static_cast<double>(logits[i]));
  if (base_logits.empty()) return true;
  base_nll_.add(base_norm - static_cast<double>(base_logits[i]));
  kls_.push_back(kl_divergence(base_logits, base_norm, logits, norm));
  kl_.add(kls_.back());
  same_top_ += engine::argmax(logits) == engine::argmax(base_logits);
  return true;
}

PredictionResult Predictions::result() const {
  PredictionResult result;
  result.ppl = std::exp(nll_.mean());
  result.ppl_err = nll_.error() * result.ppl;
  result.tokens = nll_.n();
  if (kls_.empty()) return result;
  result.has_base = true;
  result.base_ppl = std::exp(base_nll_.mean());
  result.kld_mean = kl_.mean();
  result.kld_err = kl_.error();
  std::vector<double> sorted = kls_;
  std::ranges::sort(sorted);
  result.kld_p99 = sorted[static_cast<size_t>(0.99 * static_cast<double>(sorted.size() - 1))];
  result.kld_max = sorted.back();
  result.top1 = static_cast<double>(same_top_) / static_cast<double>(sorted.size());
  return result;
}

}  // namespace shoehorn::eval
