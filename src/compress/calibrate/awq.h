// Activation-aware weight quantization (Lin et al. 2023, arXiv:2306.00978, section 3.2): columns that see large inputs
// are scaled up before rounding, and what produces the inputs is scaled down, so that the model computes the same and
// the columns that matter keep more of their digits.
#pragma once

#include <vector>

#include "compress/blocks.h"
#include "compress/calibrate/matrix_quantizer.h"

namespace shoehorn::compress {

/// One matrix that reads the input, and the format it will be rounded to.
struct ScaledReader {
  at::Tensor w;  ///< [n_out, n_in]
  const quant::Format* format;
};

/// Factors s [n_in] for the columns of matrices that read the same input, of geometric mean near one: s = m^a with the
/// inputs' magnitudes m and the a of 0, 0.05, ... 1 for which the outputs are off the least, tr(E H E') with
/// E = rounded(W s) / s - W over sampled rows. Columns with one index in `shared` [n_in] get one factor (the value
/// heads that several query heads read); undefined: each has its own.
at::Tensor search_scales(const std::vector<ScaledReader>& readers, const SecondMoments& moments,
                         const at::Tensor& shared);

}  // namespace shoehorn::compress
