#include "compress/rotate/cayley.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::compress {
namespace {

constexpr int kIterations = 5;  // of the fixed point
constexpr double kTiny = 1e-300;

/// R (3 - R'R) / 2: of a matrix that is off by e, one that is off by e^2.
at::Tensor newton_schulz(const at::Tensor& r) { return 1.5 * r - 0.5 * at::mm(r, at::mm(r.t(), r)); }

}  // namespace

CayleySgd::CayleySgd(std::vector<at::Tensor> matrices, const CayleySettings& settings)
    : matrices_(std::move(matrices)), settings_(settings) {
  for (const at::Tensor& matrix : matrices_) momenta_.push_back(at::zeros_like(matrix));
}

bool CayleySgd::step(const std::vector<at::Tensor>& gradients, double share) {
  at::NoGradGuard no_gradient;
  for (const at::Tensor& gradient : gradients) {
    if (!gradient.isfinite().all().item<bool>()) return false;
  }
  std::vector<at::Tensor> skews;
  double rows = 0, squares = 0;
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const at::Tensor& r = matrices_[i];
    const at::Tensor moved = settings_.momentum * momenta_[i] - gradients[i].to(at::kDouble);
    const at::Tensor product = at::mm(moved, r.t());
    const at::Tensor half = product - 0.5 * at::mm(r, at::mm(r.t(), product));
    skews.push_back(half - half.t());
    momenta_[i].copy_(at::mm(skews[i], r));  // its part along the manifold
    rows += static_cast<double>(r.size(0));
    squares += skews[i].square().sum().item<double>();
  }
  for (size_t i = 0; i < matrices_.size() && squares > 0; ++i) {
    const at::Tensor &r = matrices_[i], &skew = skews[i];
    // The fixed point is one while length |W| < 2; a matrix's largest sum of a row's magnitudes bounds its norm.
    const double bound = skew.abs().sum(1).max().item<double>();
    const double length = std::min(share * settings_.lr * std::sqrt(rows / squares), 1 / (bound + kTiny));
    at::Tensor next = r + length * momenta_[i];
    for (int iteration = 0; iteration < kIterations; ++iteration) next = r + 0.5 * length * at::mm(skew, r + next);
    r.copy_(newton_schulz(next));
  }
  return true;
}

double orthogonality_defect(const at::Tensor& matrix) {
  const at::Tensor r = matrix.detach().to(at::kDouble);
  return (at::mm(r.t(), r) - at::eye(r.size(0), r.options())).abs().max().item<double>();
}

}  // namespace shoehorn::compress
