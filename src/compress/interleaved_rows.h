// Rows of q and k in Hugging Face's order and in that of a file with NORM rope (convert/rope_rows.h).
#pragma once

#include "compress/torch.h"
#include "models/model.h"

namespace shoehorn::compress {

/// True for what is interleaved in a file of an architecture with NORM rope: q, k and their biases.
bool is_interleaved(models::Role role);

/// values [n_rows, ...] in the file's order -> in Hugging Face's.
at::Tensor deinterleaved(const at::Tensor& values, const models::Hparams& hparams);
/// values [n_rows, ...] in Hugging Face's order -> in the file's.
at::Tensor interleaved(const at::Tensor& values, const models::Hparams& hparams);

}  // namespace shoehorn::compress
