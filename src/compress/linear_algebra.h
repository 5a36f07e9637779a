// Symmetric positive definite matrices in place: at the sizes of an MLP a copy is gigabytes.
#pragma once

#include "compress/torch.h"

namespace shoehorn::compress {

/// Replaces H [n, n] (double, contiguous) by its inverse. Fails with kInvalid when it is not positive definite.
Status invert_positive(at::Tensor& h);

/// Replaces B [n, k] by H^-1 B; H is destroyed. Both double and contiguous.
Status solve_positive(at::Tensor& h, at::Tensor& b);

}  // namespace shoehorn::compress
