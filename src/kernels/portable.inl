// The portable kernels: plain C++ that the compiler vectorizes, instantiated for every format. Each instruction set compiles
// this file once with its own flags, after defining
//   SHOEHORN_KERNEL_SET_NAME   the set's name in kernels.inc, e.g. avx2
//   SHOEHORN_VECTOR_BYTES      width of its registers
//   SHOEHORN_TILE_TOKENS       tokens per register tile in matmul_batch
// Everything but the table is in an anonymous namespace and calls no library function, so that no symbol compiled for
// one CPU can be linked into code for another.
#include <cstddef>
#include <cstdint>

#include "kernels/kernel.h"
#include "quant/all_formats.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace shoehorn::kernels {
namespace {

constexpr size_t kLanes = 16;
constexpr size_t kChunk = quant::kMaxBlock;  // weights of a row that are expanded at a time
constexpr size_t kTileRows = kLanes;         // rows of a panel in matmul_batch
constexpr size_t kTileTokens = SHOEHORN_TILE_TOKENS;

typedef float Vector __attribute__((vector_size(SHOEHORN_VECTOR_BYTES)));
constexpr size_t kVectorFloats = SHOEHORN_VECTOR_BYTES / sizeof(float);
constexpr size_t kVectors = kLanes / kVectorFloats;

/// Sixteen floats in as many registers as that takes: a single wider type would live in memory.
struct F32x16 {
  Vector v[kVectors];
};

// Register by register, unrolled: a copy of the whole struct would go through memory.
SHOEHORN_INLINE F32x16 load(const float* from) {
  F32x16 value;
#pragma GCC unroll 4
  for (size_t i = 0; i < kVectors; ++i) __builtin_memcpy(&value.v[i], from + i * kVectorFloats, sizeof(Vector));
  return value;
}

SHOEHORN_INLINE void store(float* to, const F32x16& value) {
#pragma GCC unroll 4
  for (size_t i = 0; i < kVectors; ++i) __builtin_memcpy(to + i * kVectorFloats, &value.v[i], sizeof(Vector));
}

/// acc += a * b
SHOEHORN_INLINE void multiply_add(F32x16& acc, const F32x16& a, const F32x16& b) {
#pragma GCC unroll 4
  for (size_t i = 0; i < kVectors; ++i) acc.v[i] += a.v[i] * b.v[i];
}
SHOEHORN_INLINE void multiply_add(F32x16& acc, const F32x16& a, float b) {
#pragma GCC unroll 4
  for (size_t i = 0; i < kVectors; ++i) acc.v[i] += a.v[i] * b;
}

SHOEHORN_INLINE float sum(const F32x16& value) {
  Vector total = value.v[0];
#pragma GCC unroll 4
  for (size_t i = 1; i < kVectors; ++i) total += value.v[i];
  float out = 0;
  for (size_t i = 0; i < kVectorFloats; ++i) out += total[i];
  return out;
}

/// Widens 16 small integers. Spelled out where the compiler, left alone, converts them one by one.
SHOEHORN_INLINE void widen(const int8_t* q, F32x16& out) {
#if defined(__AVX512F__)
  out.v[0] = (Vector)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q))));
#elif defined(__AVX2__)
#pragma GCC unroll 2
  for (size_t i = 0; i < 2; ++i) {
    out.v[i] = (Vector)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q + 8 * i))));
  }
#else
  float lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(q[i]);
  out = load(lanes);
#endif
}

// How rows of a format become floats: expand() writes `n` weights (n <= kChunk, whole blocks) that start at column `first`.
template <class Block, size_t kBlockSize, void (*kUnpack)(const Block&, quant::Unpacked&)>
struct IntegerRows {
  static __attribute__((always_inline)) inline void expand(const std::byte* row, size_t first, size_t n, float* __restrict out) {
    const Block* blocks = reinterpret_cast<const Block*>(row) + first / kBlockSize;
    quant::Unpacked u;
    for (size_t b = 0; b < n / kBlockSize; ++b, out += kBlockSize) {
      kUnpack(blocks[b], u);
      for (size_t g = 0; g < kBlockSize / quant::kGroup; ++g) {
        F32x16 w;
        widen(u.q + g * quant::kGroup, w);
#pragma GCC unroll 4
        for (size_t i = 0; i < kVectors; ++i) w.v[i] = w.v[i] * u.scale[g] - u.min[g];
        store(out + g * quant::kGroup, w);
      }
    }
  }
};

struct F32Rows {
  static __attribute__((always_inline)) inline void expand(const std::byte* row, size_t first, size_t n, float* __restrict out) {
    __builtin_memcpy(out, row + first * sizeof(float), n * sizeof(float));
  }
};

struct F16Rows {
  static __attribute__((always_inline)) inline void expand(const std::byte* row, size_t first, size_t n, float* __restrict out) {
    const auto* h = reinterpret_cast<const uint16_t*>(row) + first;
    size_t i = 0;
#if defined(__F16C__)
    // The compiler does not vectorize the conversion by itself.
    for (; i + 8 <= n; i += 8) {
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(h + i))));
    }
#endif
    for (; i < n; ++i) out[i] = fp16_to_fp32(h[i]);
  }
};

struct Bf16Rows {
  static __attribute__((always_inline)) inline void expand(const std::byte* row, size_t first, size_t n, float* __restrict out) {
    const auto* h = reinterpret_cast<const uint16_t*>(row) + first;
    for (size_t i = 0; i < n; ++i) out[i] = bf16_to_fp32(h[i]);
  }
};

// The format's namespace tells which: float formats have a block of one weight.
template <quant::Type kType>
struct RowsOf;
template <>
struct RowsOf<quant::Type::F32> : F32Rows {};
template <>
struct RowsOf<quant::Type::F16> : F16Rows {};
template <>
struct RowsOf<quant::Type::BF16> : Bf16Rows {};
#define SHOEHORN_INTEGER_FORMAT(name, gguf_id, ns) \
  template <>                                      \
  struct RowsOf<quant::Type::name> : IntegerRows<quant::ns::Block, quant::ns::kBlockSize, quant::ns::unpack> {};
#include "quant/formats.inc"
#undef SHOEHORN_INTEGER_FORMAT

/// One row times N tokens.
template <class Rows, size_t N>
__attribute__((always_inline)) inline void dot_row(const std::byte* row, const MatmulArgs& a, size_t token, float* result) {
  F32x16 acc[N] = {};
  float tail[N] = {};
  alignas(64) float w[kChunk];
  for (size_t c = 0; c < a.n_cols; c += kChunk) {
    const size_t n = a.n_cols - c < kChunk ? a.n_cols - c : kChunk;
    Rows::expand(row, c, n, w);
    const float* x = a.x + token * a.x_stride + c;
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const F32x16 lanes = load(w + i);
      for (size_t t = 0; t < N; ++t) multiply_add(acc[t], lanes, load(x + t * a.x_stride + i));
    }
    for (; i < n; ++i) {
      for (size_t t = 0; t < N; ++t) tail[t] += w[i] * x[t * a.x_stride + i];
    }
  }
  for (size_t t = 0; t < N; ++t) result[t] = sum(acc[t]) + tail[t];
}

template <class Rows, size_t N>
void dot_rows(const MatmulArgs& a, size_t token) {
  for (size_t r = 0; r < a.n_rows; ++r) {
    float result[N];
    dot_row<Rows, N>(a.rows + r * a.row_stride_bytes, a, token, result);
    for (size_t t = 0; t < N; ++t) a.y[(token + t) * a.y_stride + r] = result[t];
  }
}

template <class Rows>
void matmul(const MatmulArgs& a) {
  size_t token = 0;
  for (; token + 4 <= a.n_tokens; token += 4) dot_rows<Rows, 4>(a, token);
  switch (a.n_tokens - token) {
    case 3: dot_rows<Rows, 3>(a, token); break;
    case 2: dot_rows<Rows, 2>(a, token); break;
    case 1: dot_rows<Rows, 1>(a, token); break;
    default: break;
  }
}

/// y[token + t][0 .. kTileRows) += panel * x for N tokens; panel is [n][kTileRows].
template <size_t N>
__attribute__((always_inline)) inline void multiply_panel(const float* panel, size_t n, const float* x, size_t x_stride, float* y,
                                                          size_t y_stride) {
  F32x16 acc[N];
  for (size_t t = 0; t < N; ++t) acc[t] = load(y + t * y_stride);
  for (size_t k = 0; k < n; ++k) {
    const F32x16 column = load(panel + k * kTileRows);
    for (size_t t = 0; t < N; ++t) multiply_add(acc[t], column, x[t * x_stride + k]);
  }
  for (size_t t = 0; t < N; ++t) store(y + t * y_stride, acc[t]);
}

template <class Rows>
void matmul_batch(const MatmulArgs& a) {
  alignas(64) float panel[kChunk * kTileRows];  // [kChunk][kTileRows]
  alignas(64) float expanded[kChunk];
  size_t r = 0;
  for (; r + kTileRows <= a.n_rows; r += kTileRows) {
    float* y = a.y + r;
    for (size_t t = 0; t < a.n_tokens; ++t) store(y + t * a.y_stride, F32x16{});
    for (size_t c = 0; c < a.n_cols; c += kChunk) {
      const size_t n = a.n_cols - c < kChunk ? a.n_cols - c : kChunk;
      for (size_t row = 0; row < kTileRows; ++row) {
        Rows::expand(a.rows + (r + row) * a.row_stride_bytes, c, n, expanded);
        for (size_t k = 0; k < n; ++k) panel[k * kTileRows + row] = expanded[k];
      }
      size_t t = 0;
      for (; t + kTileTokens <= a.n_tokens; t += kTileTokens) {
        multiply_panel<kTileTokens>(panel, n, a.x + t * a.x_stride + c, a.x_stride, y + t * a.y_stride, a.y_stride);
      }
      for (; t < a.n_tokens; ++t) {
        multiply_panel<1>(panel, n, a.x + t * a.x_stride + c, a.x_stride, y + t * a.y_stride, a.y_stride);
      }
    }
  }
  if (r < a.n_rows) {
    MatmulArgs rest = a;
    rest.rows += r * a.row_stride_bytes;
    rest.n_rows -= r;
    rest.y += r;
    matmul<Rows>(rest);
  }
}

template <class Rows>
void weighted_sum(const WeightedSumArgs& a) {
  alignas(64) float w[kChunk];
  for (size_t c = 0; c < a.n_cols; c += kChunk) {
    const size_t n = a.n_cols - c < kChunk ? a.n_cols - c : kChunk;
    for (size_t r = 0; r < a.n_rows; ++r) {
      Rows::expand(a.rows + r * a.row_stride_bytes, c, n, w);
      for (size_t t = 0; t < a.n_tokens; ++t) {
        const float weight = a.weights[t * a.weights_stride + r];
        float* y = a.y + t * a.y_stride + c;
        size_t i = 0;
        for (; i + kLanes <= n; i += kLanes) {
          F32x16 lanes = load(y + i);
          multiply_add(lanes, load(w + i), weight);
          store(y + i, lanes);
        }
        for (; i < n; ++i) y[i] += w[i] * weight;
      }
    }
  }
}

constexpr Kernels kRows[] = {
#define SHOEHORN_FORMAT(name, gguf_id, ns)                                                                  \
  {quant::Type::name, matmul<RowsOf<quant::Type::name>>, matmul_batch<RowsOf<quant::Type::name>>, \
   weighted_sum<RowsOf<quant::Type::name>>},
#include "quant/formats.inc"
#undef SHOEHORN_FORMAT
};

}  // namespace

namespace SHOEHORN_KERNEL_SET_NAME {
std::span<const Kernels> rows() { return kRows; }
}  // namespace SHOEHORN_KERNEL_SET_NAME

}  // namespace shoehorn::kernels
