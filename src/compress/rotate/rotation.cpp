#include "compress/rotate/rotation.h"

#include <cmath>
#include <random>

namespace shoehorn::compress {
namespace {

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
  Rotation out;
  out.n_ = n;
  if (kind == RotationKind::kHadamard) {
    SHOEHORN_TRY(const hadamard::Plan plan, hadamard::plan(static_cast<size_t>(n)));
    out.transform_ = std::make_shared<const hadamard::Transform<double>>(plan);
    out.signs_ = random_signs(n, seed);
    return out;
  }
  const auto [q, r] = at::linalg_qr(normal_matrix(n, seed));
  out.dense_ = q * r.diagonal().sign();
  return out;
}

std::string Rotation::describe() const { return transform_ ? transform_->plan().describe() : "dense"; }

at::Tensor Rotation::rows(const at::Tensor& x) const {
  if (!transform_) return at::matmul(x.to(at::kDouble), dense_);
  at::Tensor out = (x.to(at::kDouble) * signs_).contiguous();
  double* values = out.data_ptr<double>();
  // R = signs H', so that a row is a vector that H is applied to.
  at::parallel_for(0, out.numel() / n_, 16, [&](int64_t begin, int64_t end) {
    std::vector<double> scratch(transform_->scratch());
    transform_->apply(values + begin * n_, scratch.data(), static_cast<size_t>(end - begin));
  });
  return out;
}

at::Tensor Rotation::columns(const at::Tensor& w) const { return rows(w.t()).t(); }

}  // namespace shoehorn::compress
