#include "compress/hadamard_rows.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::compress {

HadamardRows::HadamardRows(const hadamard::Plan& plan, const at::TensorOptions& options) {
  const auto add = [&](const hadamard::Factor& factor) {
    const std::vector<int8_t> signs = hadamard::matrix(factor);
    const auto order = static_cast<int64_t>(factor.order);
    at::Tensor dense = at::empty({order, order}, at::kDouble);
    for (size_t i = 0; i < signs.size(); ++i)
      dense.data_ptr<double>()[i] = signs[i] / std::sqrt(static_cast<double>(order));
    factors_.push_back(dense.to(options));
  };
  for (const hadamard::Factor& factor : plan.factors) add(factor);
  // Sylvester's matrix in pieces that a matrix product is still fast with.
  constexpr size_t kPiece = 6;
  for (size_t left = plan.log2; left > 0; left -= std::min(left, kPiece))
    add({hadamard::Construction::kSylvester, size_t{1} << std::min(left, kPiece)});
}

at::Tensor HadamardRows::operator()(const at::Tensor& x) const {
  at::Tensor out = x;
  int64_t stride = 1;
  for (size_t f = factors_.size(); f-- > 0;) {
    const int64_t order = factors_[f].size(0);
    out = stride == 1 ? at::matmul(out.reshape({-1, order}), factors_[f].t())
                      : at::matmul(factors_[f], out.reshape({-1, order, stride}));
    stride *= order;
  }
  return out.reshape(x.sizes());
}

}  // namespace shoehorn::compress
