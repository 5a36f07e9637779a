#include "compress/heal/fake_quantizer.h"

#include <cmath>

#include "base/float16.h"
#include "compress/blocks.h"

namespace shoehorn::compress {
namespace {

constexpr int kScaleSteps = 4;

/// Lloyd's steps (1957, published 1982) for {-d, 0, d}: a weight is zero up to d / 2, d the mean magnitude of the others.
void round_ternary(const float* w, int64_t n, float* out) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::abs(static_cast<double>(w[i]));
  double d = sum / static_cast<double>(n);
  for (int step = 0; step < kScaleSteps; ++step) {
    double kept = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double magnitude = std::abs(static_cast<double>(w[i]));
      if (2 * magnitude <= d) continue;
      kept += magnitude;
      ++count;
    }
    if (count == 0) break;
    d = kept / static_cast<double>(count);
  }
  const float scale = fp16_to_fp32(fp32_to_fp16(static_cast<float>(d)));
  for (int64_t i = 0; i < n; ++i) out[i] = 2 * std::abs(w[i]) <= scale ? 0.0f : std::copysign(scale, w[i]);
}

bool is_ternary(quant::Type type) { return type == quant::Type::TQ1_0 || type == quant::Type::TQ2_0; }

}  // namespace

at::Tensor FakeQuantizer::operator()(const at::Tensor& w) const {
  const at::Tensor plain = w.detach().contiguous();
  if (!is_ternary(format_.type)) return rounded(plain, {}, format_);
  at::Tensor out = at::empty_like(plain);
  const auto n = static_cast<int64_t>(format_.block_size);
  at::parallel_for(0, plain.numel() / n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) round_ternary(plain.data_ptr<float>() + block * n, n, out.data_ptr<float>() + block * n);
  });
  return out;
}

at::Tensor FakeQuantizer::settled(const at::Tensor& w) const {
  at::Tensor now = (*this)(w);
  for (int round = 0; round < kMostRounds; ++round) {
    at::Tensor next = rounded(now, {}, format_);
    if (at::equal(next, now)) break;
    now = std::move(next);
  }
  return now;
}

}  // namespace shoehorn::compress
