#include "compress/calibrate/awq.h"

#include <limits>

#include "compress/blocks.h"

namespace shoehorn::compress {
namespace {

constexpr int64_t kSampleRows = 256;
constexpr int kSteps = 20;

/// At most kSampleRows rows, evenly spread.
at::Tensor sample(const at::Tensor& w) {
  const int64_t step = (w.size(0) + kSampleRows - 1) / kSampleRows;
  return w.slice(0, 0, w.size(0), step).to(at::kFloat).contiguous();
}

/// Root mean square of each input, those that share a factor together.
at::Tensor magnitudes(const SecondMoments& moments, const at::Tensor& shared) {
  const at::Tensor square = moments.h.diagonal().to(at::kDouble);
  if (!shared.defined()) return square.sqrt();
  const int64_t n = shared.max().item<int64_t>() + 1;
  const at::Tensor sum = at::zeros({n}, at::kDouble).index_add(0, shared, square);
  return sum.index_select(0, shared).sqrt();
}

}  // namespace

at::Tensor search_scales(const std::vector<ScaledReader>& readers, const SecondMoments& moments,
                         const at::Tensor& shared) {
  const at::Tensor magnitude = magnitudes(moments, shared);
  const at::Tensor log_magnitude = magnitude.log(), centred = log_magnitude - log_magnitude.mean();
  const at::Tensor square = moments.h.diagonal();
  at::Tensor best;
  double least = std::numeric_limits<double>::infinity();
  std::vector<at::Tensor> rows;
  for (const ScaledReader& reader : readers) rows.push_back(sample(reader.w));
  for (int step = 0; step <= kSteps; ++step) {
    const at::Tensor s = (centred * (static_cast<double>(step) / kSteps)).exp().to(at::kFloat);
    const at::Tensor importance = (square / s.square()).contiguous();
    double error = 0;
    for (size_t i = 0; i < readers.size(); ++i) {
      const at::Tensor off = rounded(rows[i] * s, importance, *readers[i].format) / s - rows[i];
      const double share = static_cast<double>(readers[i].w.size(0)) / static_cast<double>(rows[i].size(0));
      error += share * (at::mm(off, moments.h) * off).sum(at::kDouble).item<double>();
    }
    if (error < least) {
      least = error;
      best = s;
    }
  }
  return best;
}

}  // namespace shoehorn::compress
