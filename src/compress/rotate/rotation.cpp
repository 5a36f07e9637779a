#include "compress/rotate/rotation.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace shoehorn::compress {
namespace {

constexpr int64_t kPieceElements = 4 << 20;

/// Standard normal values [n, n], the same everywhere: polar pairs of Marsaglia (1964) from the generator's own bits.
at::Tensor normal_matrix(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-52 - 1; };  // [-1, 1)
  at::Tensor out = at::empty({n, n}, at::kDouble);
  double* to = out.data_ptr<double>();
  for (int64_t i = 0; i < n * n;) {
    const double u = uniform(), v = uniform(), s = u * u + v * v;
    if (s >= 1 || s == 0) continue;
    const double factor = std::sqrt(-2 * std::log(s) / s);
    to[i++] = u * factor;
    if (i < n * n) to[i++] = v * factor;
  }
  return out;
}

at::Tensor random_signs(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  at::Tensor out = at::empty({n}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) out.data_ptr<double>()[i] = (random() >> 63) != 0 ? -1 : 1;
  return out;
}

}  // namespace

Expected<Rotation> Rotation::random(RotationKind kind, int64_t n, uint64_t seed) {
  if (kind == RotationKind::kOrthogonal) {
    const auto [q, r] = at::linalg_qr(normal_matrix(n, seed));
    return of(q * r.diagonal().sign());
  }
  Rotation out;
  out.n_ = n;
  SHOEHORN_TRY(const hadamard::Plan plan, hadamard::plan(static_cast<size_t>(n)));
  out.description_ = plan.describe();
  out.transform_ = HadamardRows(plan, at::kDouble);
  out.signs_ = random_signs(n, seed);
  return out;
}

Rotation Rotation::of(const at::Tensor& matrix) {
  Rotation out;
  out.n_ = matrix.size(0);
  out.dense_ = matrix;
  return out;
}

at::Tensor Rotation::rows(const at::Tensor& x, const at::Tensor& factors) const {
  if (dense_.defined()) {
    const at::Tensor values = x.to(dense_.device(), dense_.scalar_type());
    return at::matmul(factors.defined() ? values * factors.to(values.options()) : values, dense_);
  }
  // R = signs H', so that a row is a vector that H is applied to.
  const at::Tensor scale = factors.defined() ? signs_ * factors : signs_;
  const at::Tensor flat = x.dim() == 2 ? x : x.reshape({-1, n_});
  at::Tensor out = at::empty(flat.sizes(), at::kDouble);
  const int64_t piece = std::max<int64_t>(1, kPieceElements / n_);
  for (int64_t first = 0; first < flat.size(0); first += piece) {
    const int64_t n = std::min(piece, flat.size(0) - first);
    out.narrow(0, first, n).copy_(transform_(flat.narrow(0, first, n).to(at::kDouble) * scale));
  }
  return out.view(x.sizes());
}

at::Tensor Rotation::columns(const at::Tensor& w) const { return rows(w.t()).t(); }

at::Tensor Rotation::matrix() const { return dense_.defined() ? dense_ : rows(at::eye(n_, at::kDouble)); }

}  // namespace shoehorn::compress
