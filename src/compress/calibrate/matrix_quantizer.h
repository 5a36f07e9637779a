// A weight matrix on a format's grid, by the second moments of what it is multiplied with.
#pragma once

#include "compress/torch.h"
#include "quant/format.h"

namespace shoehorn::compress {

/// H = X'X + ridge I of the inputs X [n_tokens, n_in] of a product, and U, upper triangular, with U'U = H^-1. In single
/// precision.
struct SecondMoments {
  at::Tensor h, factor;  ///< [n_in, n_in]
};

/// gram: X'X in any floating dtype; ridge = damping * mean diagonal. A column that is always zero costs nothing and
/// gets the mean, or one where all are. Fails with kInvalid when H is not finite or not positive definite. Memory: 12 bytes
/// times the square of n_in, beside the gram until it is read; it is let go of then, when the caller has done so.
Expected<SecondMoments> second_moments(at::Tensor gram, double damping);

struct QuantizedRows {
  at::Tensor blocks;  ///< [n_rows, row_bytes] uint8
  double error = 0;   ///< tr (V - W) H (V - W)', with the ridge in H
};

/// Rows w [n_rows, n_in] float of a matrix, n_in a multiple of the format's block size; the format must have a grid
/// (quant::Format::grid). First every row is rounded with feedback, then improved by at most `sweeps` of coordinate
/// descent (quant/panel.h). Memory: about six times w. Rows do not depend on each other.
QuantizedRows quantize_rows(const at::Tensor& w, const SecondMoments& moments, const quant::Format& format, int sweeps);

}  // namespace shoehorn::compress
