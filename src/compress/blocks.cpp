#include "compress/blocks.h"

namespace shoehorn::compress {

at::Tensor encode(const at::Tensor& w, const at::Tensor& importance, const quant::Format& format) {
  const auto n_cols = static_cast<uint64_t>(w.size(1)), row_bytes = quant::row_bytes(format, n_cols);
  at::Tensor blocks = at::empty({w.size(0), static_cast<int64_t>(row_bytes)}, at::kByte);
  const float* weights = importance.defined() ? importance.data_ptr<float>() : nullptr;
  at::parallel_for(0, w.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      format.encode(w.data_ptr<float>() + row * w.size(1), weights,
                    blocks.data_ptr<uint8_t>() + static_cast<uint64_t>(row) * row_bytes, n_cols);
    }
  });
  return blocks;
}

at::Tensor decode(const uint8_t* blocks, const quant::Format& format, int64_t n_rows, int64_t n_cols) {
  at::Tensor values = at::empty({n_rows, n_cols}, at::kFloat);
  const uint64_t row_bytes = quant::row_bytes(format, static_cast<uint64_t>(n_cols));
  at::parallel_for(0, n_rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      format.decode(blocks + static_cast<uint64_t>(row) * row_bytes, values.data_ptr<float>() + row * n_cols,
                    static_cast<size_t>(n_cols));
    }
  });
  return values;
}

at::Tensor rounded(const at::Tensor& w, const at::Tensor& importance, const quant::Format& format) {
  return decode(encode(w, importance, format).data_ptr<uint8_t>(), format, w.size(0), w.size(1));
}

}  // namespace shoehorn::compress
