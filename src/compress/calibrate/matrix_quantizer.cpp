#include "compress/calibrate/matrix_quantizer.h"

#include <cstring>

#include <algorithm>
#include <cstring>

#include "compress/linear_algebra.h"
#include "quant/panel.h"

namespace shoehorn::compress {
namespace {

using quant::kPanelColumns;
using quant::kPanelRows;

/// A sweep that lowers the error by less is the last.
constexpr double kWorthIt = 1e-3;

/// Rows in the making, columns first: [n_in, rows], rows filled up with zeros to whole panels.
class Rows {
 public:
  Rows(const at::Tensor& w, const SecondMoments& moments, const quant::Format& format)
      : grid_(*format.grid), moments_(moments), n_in_(w.size(1)), n_rows_(w.size(0)) {
    const int64_t padded = (n_rows_ + kRows - 1) / kRows * kRows;
    target_ = at::zeros({n_in_, padded}, at::kFloat);
    target_.narrow(1, 0, n_rows_).copy_(w.t());
    off_ = at::empty_like(target_);
    n_tiles_ = padded / kRows;
    n_panels_ = (n_in_ + kColumns - 1) / kColumns;
    panels_.resize(static_cast<size_t>(n_tiles_ * n_panels_));
  }

  /// Panel by panel, with what the panels before left to make good.
  void round() {
    at::Tensor error = at::zeros_like(target_);
    for (int64_t p = 0; p < n_panels_; ++p) {
      const int64_t first = p * kColumns, n = columns(p);
      at::Tensor target = target_.narrow(0, first, n).clone();
      if (first > 0) {
        target.addmm_(moments_.factor.narrow(0, 0, first).narrow(1, first, n).t(), error.narrow(0, 0, first), 1, -1);
      }
      const float* factor = moments_.factor.data_ptr<float>() + first * n_in_ + first;
      // What an error costs when later columns make good what they can.
      std::vector<float> importance(static_cast<size_t>(n));
      for (int64_t j = 0; j < n; ++j)
        importance[static_cast<size_t>(j)] = 1 / (factor[j * n_in_ + j] * factor[j * n_in_ + j]);
      for_tiles([&](int64_t tile) {
        std::vector<float> w(tile_size(n)), e(tile_size(n));
        copy_tile(target, 0, tile, n, w.data());
        quant::Panel& panel = at(tile, p);
        quant::search_panel(grid_, w.data(), importance.data(), static_cast<size_t>(n), panel);
        quant::round_panel(grid_.grid, factor, static_cast<size_t>(n_in_), w.data(), panel, e.data());
        put_tile(e.data(), error, first, tile, n);
        put_off(panel, first, tile, w.data());
      });
    }
  }

  /// One sweep of coordinate descent over all panels. Returns the sum over panels of the error that each met.
  double descend() {
    double met = 0;
    for (int64_t p = 0; p < n_panels_; ++p) {
      const int64_t first = p * kColumns, n = columns(p);
      const at::Tensor gradient = at::mm(moments_.h.narrow(0, first, n), off_);
      met += (gradient * off_.narrow(0, first, n)).sum(at::kDouble).item<double>();
      const float* h = moments_.h.data_ptr<float>() + first * n_in_ + first;
      for_tiles([&](int64_t tile) {
        std::vector<float> g(tile_size(n));
        copy_tile(gradient, 0, tile, n, g.data());
        quant::Panel& panel = at(tile, p);
        quant::descend_panel(grid_.grid, h, static_cast<size_t>(n_in_), 1, g.data(), panel);
        put_off(panel, first, tile, g.data());
      });
    }
    return met;
  }

  QuantizedRows result(const quant::Format& format) const {
    const auto row_bytes = static_cast<int64_t>(quant::row_bytes(format, static_cast<uint64_t>(n_in_)));
    QuantizedRows out;
    out.blocks = at::empty({n_rows_, row_bytes}, at::kByte);
    for (int64_t p = 0; p < n_panels_; ++p) {
      auto* blocks = out.blocks.data_ptr<uint8_t>() + quant::row_bytes(format, static_cast<uint64_t>(p * kColumns));
      for (int64_t row = 0; row < n_rows_; ++row) {
        quant::pack_row(grid_, panels_[static_cast<size_t>(row / kRows * n_panels_ + p)],
                        static_cast<size_t>(row % kRows), format.block_bytes, blocks + row * row_bytes);
      }
    }
    out.error = (at::mm(moments_.h, off_) * off_).sum(at::kDouble).item<double>();
    return out;
  }

 private:
  static constexpr int64_t kRows = kPanelRows, kColumns = kPanelColumns;

  int64_t columns(int64_t p) const { return std::min(kColumns, n_in_ - p * kColumns); }
  static size_t tile_size(int64_t n) { return static_cast<size_t>(n * kRows); }
  quant::Panel& at(int64_t tile, int64_t p) { return panels_[static_cast<size_t>(tile * n_panels_ + p)]; }

  template <class Work>
  void for_tiles(Work work) {
    at::parallel_for(0, n_tiles_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) work(tile);
    });
  }

  static void copy_tile(const at::Tensor& from, int64_t first, int64_t tile, int64_t n, float* to) {
    const float* source = from.data_ptr<float>() + first * from.size(1) + tile * kRows;
    for (int64_t j = 0; j < n; ++j) std::memcpy(to + j * kRows, source + j * from.size(1), kRows * sizeof(float));
  }

  static void put_tile(const float* from, at::Tensor& to, int64_t first, int64_t tile, int64_t n) {
    float* out = to.data_ptr<float>() + first * to.size(1) + tile * kRows;
    for (int64_t j = 0; j < n; ++j) std::memcpy(out + j * to.size(1), from + j * kRows, kRows * sizeof(float));
  }

  void put_off(const quant::Panel& panel, int64_t first, int64_t tile, float* scratch) {
    const auto n = static_cast<int64_t>(panel.n_columns);
    quant::panel_values(grid_.grid, panel, scratch);
    put_tile(scratch, off_, first, tile, n);
    float* off = off_.data_ptr<float>() + first * off_.size(1) + tile * kRows;
    const float* target = target_.data_ptr<float>() + first * off_.size(1) + tile * kRows;
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t r = 0; r < kRows; ++r) off[j * off_.size(1) + r] -= target[j * off_.size(1) + r];
    }
  }

  const quant::SearchedGrid& grid_;
  const SecondMoments& moments_;
  int64_t n_in_, n_rows_, n_tiles_ = 0, n_panels_ = 0;
  at::Tensor target_, off_;           // [n_in, padded rows]: the weights, and what the values on the grid lie off them
  std::vector<quant::Panel> panels_;  // [tile][panel]
};

/// A matrix in single precision, in the memory that it had in double.
at::Tensor narrowed(const at::Tensor& h) {
  const auto* from = h.data_ptr<double>();
  auto* to = static_cast<std::byte*>(h.data_ptr());
  for (int64_t i = 0; i < h.numel(); ++i) {
    const auto value = static_cast<float>(from[i]);
    std::memcpy(to + i * 4, &value, 4);  // what is written over has been read
  }
  return at::from_blob(to, h.sizes(), [h](void*) {}, at::kFloat);
}

}  // namespace

Expected<SecondMoments> second_moments(at::Tensor gram, double damping) {
  at::Tensor h = gram.to(at::kCPU, at::kDouble, false, true).contiguous();
  gram.reset();
  const double mean = h.diagonal().mean().item<double>();
  if (!(mean >= 0)) return fail(ErrorCode::kInvalid, "the inputs are not finite");
  const at::Tensor silent = h.diagonal() == 0;
  h.diagonal().add_(damping * mean).masked_fill_(silent, mean > 0 ? mean : 1);
  SecondMoments out;
  out.h = h.to(at::kFloat);
  SHOEHORN_RETURN_IF_ERROR(invert_positive(h));
  SHOEHORN_RETURN_IF_ERROR(factorize_upper(h));
  out.factor = narrowed(h);
  return out;
}

QuantizedRows quantize_rows(const at::Tensor& w, const SecondMoments& moments, const quant::Format& format,
                            int sweeps) {
  Rows rows(w, moments, format);
  rows.round();
  double last = 0;
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    const double met = rows.descend();
    if (sweep > 0 && met > last * (1 - kWorthIt)) break;
    last = met;
  }
  return rows.result(format);
}

}  // namespace shoehorn::compress
