// Weights as a format will hold them, while they are still trained.
#pragma once

#include "compress/torch.h"
#include "quant/format.h"
#include "quant/panel.h"

namespace shoehorn::compress {

inline double bits_per_weight(const quant::Format& format) { return 8.0 * static_cast<double>(format.block_bytes) / static_cast<double>(format.block_size); }

/// Formats that are trained for: those that lose enough for it. Of these what has settled (below) stays as it is.
inline bool is_for_training(const quant::Format& format) { return format.quantized && bits_per_weight(format) < 5.5; }

/// A learning rate to begin with: the more a format rounds, the farther weights have to go.
inline double rate_for_training(const quant::Format& format) {
  const double bits = bits_per_weight(format);
  return bits < 2.5 ? 1e-3 : bits < 3.5 ? 5e-4 : 2e-4;
}

/// Weights that one scale of the format multiplies.
inline int64_t weights_of_a_scale(const quant::Format& format) {
  return static_cast<int64_t>(format.grid != nullptr ? format.grid->grid.sub_size : format.block_size);
}

/// What quantization-aware training computes with (Jacob et al. 2018, arXiv:1712.05877): gradients go past it as if it were not there (Bengio et al.
/// 2013, arXiv:1308.3432). Ternary blocks get the scale and the zeros of least squared error, starting from the mean magnitude that BitNet b1.58
/// takes (Ma et al. 2024, arXiv:2402.17764); the formats' own encoders take the largest weight. Other formats are encoded and decoded.
class FakeQuantizer {
 public:
  explicit FakeQuantizer(const quant::Format& format) : format_(format) {}

  const quant::Format& format() const { return format_; }

  /// w [n_rows, n_cols] float, on the CPU -> the same shape.
  at::Tensor operator()(const at::Tensor& w) const;

  /// The same until encoding it changes nothing any more: what a file of these weights decodes to, bit for bit. Few encoders need a second
  /// round; after kMostRounds it is what it is.
  at::Tensor settled(const at::Tensor& w) const;

 private:
  static constexpr int kMostRounds = 16;
  const quant::Format& format_;
};

}  // namespace shoehorn::compress
