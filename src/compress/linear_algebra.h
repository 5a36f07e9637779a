// Symmetric positive definite matrices in place: at the sizes of an MLP a copy is gigabytes.
#pragma once

#include "compress/torch.h"

namespace shoehorn::compress {

/// Adds X'X of X [rows, n] to the lower triangle of H [n, n] (contiguous, both float or both double), half the work of
/// the whole. On other devices than the CPU to all of H.
void add_gram(at::Tensor& h, const at::Tensor& x);

/// Makes H [n, n] (contiguous, float or double) symmetric by its lower triangle.
void mirror_lower(at::Tensor& h);

/// Replaces H [n, n] (double, contiguous) by its inverse. Fails with kInvalid when it is not positive definite.
Status invert_positive(at::Tensor& h);

/// Replaces H [n, n] (double, contiguous) by the upper triangular U with U'U = H. Fails with kInvalid when it is not
/// positive definite.
Status factorize_upper(at::Tensor& h);

/// Replaces B [n, k] by H^-1 B; H is destroyed. Both double and contiguous.
Status solve_positive(at::Tensor& h, at::Tensor& b);

}  // namespace shoehorn::compress
