// The plain kernels: floats, one weight after the other, for every format through quant's unpack. They run anywhere and are what
// the fast ones are tested against.
#include <cmath>
#include <cstring>

#include "kernels/kernel.h"
#include "quant/all_formats.h"

namespace shoehorn::kernels {
namespace {

constexpr size_t kPanelRows = 16;
constexpr size_t kAttendRows = 32;

template <class Block, size_t kBlockSize, void (*kUnpack)(const Block&, quant::Unpacked&)>
void expand_integers(const std::byte* row, size_t n, float* out) {
  const Block* blocks = reinterpret_cast<const Block*>(row);
  quant::Unpacked u;
  for (size_t b = 0; b < n / kBlockSize; ++b) {
    kUnpack(blocks[b], u);
    for (size_t i = 0; i < kBlockSize; ++i) {
      *out++ = u.scale[i / quant::kGroup] * static_cast<float>(u.q[i]) - u.min[i / quant::kGroup];
    }
  }
}

void expand_f32(const std::byte* row, size_t n, float* out) { std::memcpy(out, row, n * sizeof(float)); }
void expand_f16(const std::byte* row, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = fp16_to_fp32(reinterpret_cast<const uint16_t*>(row)[i]);
}
void expand_bf16(const std::byte* row, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = bf16_to_fp32(reinterpret_cast<const uint16_t*>(row)[i]);
}

float dot(const float* a, const float* b, size_t n) {
  float lanes[8] = {};
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (size_t l = 0; l < 8; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  float sum = 0;
  for (; i < n; ++i) sum += a[i] * b[i];
  for (const float lane : lanes) sum += lane;
  return sum;
}

template <ExpandFn kExpand, size_t kBlockBytes, size_t kBlockSize>
void matmul(const MatmulArgs& a) {
  constexpr size_t kChunk = quant::kMaxBlock;
  float w[kChunk];
  const float* x = reinterpret_cast<const float*>(a.x);
  for (size_t r = 0; r < a.n_rows; ++r) {
    for (size_t t = 0; t < a.n_tokens; ++t) a.y[t * a.y_stride + r] = 0;
    for (size_t c = 0; c < a.n_cols; c += kChunk) {
      const size_t n = a.n_cols - c < kChunk ? a.n_cols - c : kChunk;
      kExpand(a.rows + r * a.row_stride_bytes + c / kBlockSize * kBlockBytes, n, w);
      for (size_t t = 0; t < a.n_tokens; ++t) a.y[t * a.y_stride + r] += dot(w, x + t * a.n_cols + c, n);
    }
  }
}

void pack_float_rows(const PackArgs& a) {
  float* out = reinterpret_cast<float*>(a.out);
  for (size_t t = a.begin; t < a.end; ++t) std::memcpy(out + t * a.n_cols, a.x + t * a.x_stride, a.n_cols * sizeof(float));
}

size_t attend_scratch(size_t head_dim) { return head_dim; }

/// Position by position, with the running maximum and sum of Milakov & Gimelshein 2018, arXiv:1805.02867.
void attend(const AttendArgs& a) {
  for (size_t t = 0; t < a.n_tokens; ++t) {
    const size_t visible = a.n_past + t + 1, end = a.end < visible ? a.end : visible;
    for (size_t h = 0; h < a.n_heads; ++h) {
      const float* q = a.q + t * a.q_stride + h * a.head_dim;
      float* out = a.out + t * a.out_stride + h * a.head_dim;
      for (size_t d = 0; d < a.head_dim; ++d) out[d] = 0;
      float max = -INFINITY, sum = 0;
      for (size_t p = std::max(a.first, a.first_seen(t)); p < end; ++p) {
        a.key->expand(a.keys + p * a.key_stride, a.head_dim, a.scratch);
        float score = a.scale * dot(q, a.scratch, a.head_dim);
        if (a.softcap > 0) score = a.softcap * std::tanh(score / a.softcap);
        if (a.slopes != nullptr) score -= a.slopes[h] * static_cast<float>(visible - 1 - p);
        const float new_max = score > max ? score : max, shrink = std::exp(max - new_max), share = std::exp(score - new_max);
        a.value->expand(a.values + p * a.value_stride, a.head_dim, a.scratch);
        for (size_t d = 0; d < a.head_dim; ++d) out[d] = out[d] * shrink + a.scratch[d] * share;
        sum = sum * shrink + share;
        max = new_max;
      }
      for (size_t d = 0; d < a.head_dim; ++d) out[d] = sum > 0 ? out[d] / sum : 0;
      if (a.max != nullptr) a.max[t * a.n_heads + h] = max;
      if (a.sum != nullptr) a.sum[t * a.n_heads + h] = sum;
    }
  }
}

void rms_norm(const float* x, const float* gain, size_t n, float eps, float* out) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const auto scale = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(eps)));
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * scale * gain[i];
}

void layer_norm(const float* x, const float* gain, const float* bias, size_t n, float eps, float* out) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) squares += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
  const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
  for (size_t i = 0; i < n; ++i) {
    out[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * scale) * gain[i] + (bias == nullptr ? 0 : bias[i]);
  }
}

float silu(float x) { return x / (1 + std::exp(-x)); }
float gelu_tanh(float x) {
  constexpr float kRoot = 0.797884561f;  // sqrt(2 / pi)
  return 0.5f * x * (1 + std::tanh(kRoot * (x + 0.044715f * x * x * x)));
}
float gelu(float x) { return 0.5f * x * std::erfc(-0.707106781f * x); }
float relu2(float x) { return x > 0 ? x * x : 0; }

template <float (*kFunction)(float)>
void activate(float* gate, const float* up, size_t n) {
  for (size_t i = 0; i < n; ++i) gate[i] = kFunction(gate[i]) * (up == nullptr ? 1 : up[i]);
}

void add(float* x, const float* y, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] += y[i];
}

uint64_t spin(uint64_t n) {
  constexpr size_t kChains = 16;
  float acc[kChains] = {};
  volatile float factor = 1.0f;
  const float f = factor;
  for (uint64_t i = 0; i < n; ++i) {
    for (float& a : acc) a = a * f + f;
  }
  for (const float a : acc) factor = a;
  return n * kChains;
}

template <ExpandFn kExpand, size_t kBlockBytes, size_t kBlockSize>
constexpr Kernels kernels(quant::Type type) {
  constexpr MatmulFn kMatmul = matmul<kExpand, kBlockBytes, kBlockSize>;
  return {type, Layout::kFloatRows, kMatmul, Layout::kFloatRows, kMatmul, kExpand};
}

constexpr Kernels kFormats[] = {
    kernels<expand_f32, 4, 1>(quant::Type::F32),
    kernels<expand_f16, 2, 1>(quant::Type::F16),
    kernels<expand_bf16, 2, 1>(quant::Type::BF16),
#define SHOEHORN_INTEGER_FORMAT(name, gguf_id, ns)                                                                      \
  kernels<expand_integers<quant::ns::Block, quant::ns::kBlockSize, quant::ns::unpack>, sizeof(quant::ns::Block), quant::ns::kBlockSize>( \
      quant::Type::name),
#include "quant/formats.inc"
#undef SHOEHORN_INTEGER_FORMAT
};

constexpr KernelTable kTable = {
    .formats = kFormats,
    .pack = {pack_float_rows},
    .granule = 1,
    .panel_rows = kPanelRows,
    .batch_from = 16,
    .attend_rows = kAttendRows,
    .attend_scratch = attend_scratch,
    .attend = attend,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .activate = {activate<silu>, activate<gelu_tanh>, activate<gelu>, activate<relu2>},
    .add = add,
    .hadamard = {},
    .spin = spin,
};

}  // namespace

namespace scalar {
const KernelTable& table() { return kTable; }
}  // namespace scalar

}  // namespace shoehorn::kernels
