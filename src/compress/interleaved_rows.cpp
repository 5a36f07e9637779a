#include "compress/interleaved_rows.h"

#include "convert/rope_rows.h"

namespace shoehorn::compress {
namespace {

/// Hugging Face's row for each row of the file.
at::Tensor rows_of_file(int64_t n_rows, const models::Hparams& h) {
  at::Tensor order = at::empty({n_rows}, at::kLong);
  auto* to = order.data_ptr<int64_t>();
  for (int64_t row = 0; row < n_rows; ++row)
    to[row] = static_cast<int64_t>(convert::hf_row(static_cast<uint64_t>(row), h.head_dim, h.n_rot));
  return order;
}

}  // namespace

bool is_interleaved(models::Role role) {
  using models::Role;
  return role == Role::kAttnQ || role == Role::kAttnK || role == Role::kAttnQBias || role == Role::kAttnKBias;
}

at::Tensor deinterleaved(const at::Tensor& values, const models::Hparams& hparams) {
  return at::empty_like(values).index_copy_(0, rows_of_file(values.size(0), hparams), values);
}

at::Tensor interleaved(const at::Tensor& values, const models::Hparams& hparams) {
  return values.index_select(0, rows_of_file(values.size(0), hparams));
}

}  // namespace shoehorn::compress
