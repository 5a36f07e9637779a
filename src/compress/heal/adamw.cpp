#include "compress/heal/adamw.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::compress {

double learning_rate(const AdamWSettings& s, int64_t step, int64_t n_steps) {
  const auto at = static_cast<double>(step), warmup = static_cast<double>(s.warmup), end = static_cast<double>(n_steps);
  if (step < s.warmup) return s.lr * (at + 1) / warmup;
  if (s.schedule == "constant") return s.lr;
  const double done = end > warmup ? std::clamp((at - warmup) / (end - warmup), 0.0, 1.0) : 0;
  return s.schedule == "cosine" ? s.lr * (1 + std::cos(M_PI * done)) / 2 : s.lr * (1 - done);
}

AdamW::AdamW(std::vector<at::Tensor> parameters, AdamWSettings settings, std::vector<double> rates)
    : parameters_(std::move(parameters)), settings_(std::move(settings)), rates_(std::move(rates)) {
  rates_.resize(parameters_.size(), 1);
  for (const at::Tensor& parameter : parameters_) {
    first_.push_back(at::zeros_like(parameter.detach()));
    second_.push_back(at::zeros_like(parameter.detach()));
  }
}

double AdamW::step(const std::vector<at::Tensor>& gradients, int64_t step, int64_t n_steps) {
  at::NoGradGuard no_gradient;
  double squares = 0;
  for (const at::Tensor& gradient : gradients) squares += gradient.to(at::kDouble).square().sum().item<double>();
  const double norm = std::sqrt(squares);
  if (!std::isfinite(norm)) return norm;
  const double scale = settings_.clip > 0 && norm > settings_.clip ? settings_.clip / (norm + 1e-6) : 1;
  const double common_rate = learning_rate(settings_, step, n_steps);
  const double correction1 = 1 - std::pow(settings_.beta1, static_cast<double>(step + 1));
  const double correction2 = 1 - std::pow(settings_.beta2, static_cast<double>(step + 1));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const double rate = common_rate * rates_[i];
    const at::Tensor g = gradients[i] * scale;
    parameters_[i].mul_(1 - rate * settings_.weight_decay);
    first_[i].mul_(settings_.beta1).add_(g, 1 - settings_.beta1);
    second_[i].mul_(settings_.beta2).addcmul_(g, g, 1 - settings_.beta2);
    const at::Tensor divisor = (second_[i] / correction2).sqrt_().add_(settings_.epsilon);
    parameters_[i].addcdiv_(first_[i], divisor, -rate / correction1);
  }
  return norm;
}

}  // namespace shoehorn::compress
