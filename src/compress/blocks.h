// Rows of a matrix as blocks of a format, each weight by itself, and back.
#pragma once

#include "compress/torch.h"
#include "quant/format.h"

namespace shoehorn::compress {

/// w [n_rows, n_cols] float -> blocks [n_rows, row_bytes]; errors are weighted by importance [n_cols], undefined: all alike.
at::Tensor encode(const at::Tensor& w, const at::Tensor& importance, const quant::Format& format);

/// Blocks of n_rows rows -> [n_rows, n_cols] float.
at::Tensor decode(const uint8_t* blocks, const quant::Format& format, int64_t n_rows, int64_t n_cols);

/// w [n_rows, n_cols] float as the format has it: encoded, and decoded again.
at::Tensor rounded(const at::Tensor& w, const at::Tensor& importance, const quant::Format& format);

}  // namespace shoehorn::compress
