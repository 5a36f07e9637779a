// Hadamard transforms of tensors' rows, differentiable.
#pragma once

#include <vector>

#include "compress/torch.h"
#include "hadamard/matrix.h"

namespace shoehorn::compress {

/// x [..., n] -> H x of every row, the transform of a plan (hadamard/transform.h) as products with its small factors.
class HadamardRows {
 public:
  HadamardRows() = default;
  HadamardRows(const hadamard::Plan& plan, const at::TensorOptions& options);
  at::Tensor operator()(const at::Tensor& x) const;

 private:
  std::vector<at::Tensor> factors_;  // [order, order] each, that of the fastest index last
};

}  // namespace shoehorn::compress
