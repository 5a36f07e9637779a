// The kernel table: which function computes an operation on rows of a format, per instruction set. A faster kernel is a new
// row in kernels.inc; selection, tests and benchmarks read the same rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "quant/format.h"

namespace shoehorn::kernels {

/// y[t * y_stride + r] = sum_c row_r[c] * x[t * x_stride + c]   for t < n_tokens, r < n_rows
struct MatmulArgs {
  const std::byte* rows;     ///< n_rows rows of n_cols weights in the kernel's format
  size_t row_stride_bytes;   ///< distance between rows
  size_t n_rows, n_cols;     ///< n_cols is a multiple of the format's block
  const float* x;            ///< [n_tokens, x_stride]
  size_t x_stride;
  size_t n_tokens;
  float* y;                  ///< [n_tokens, y_stride]
  size_t y_stride;
};
using MatmulFn = void (*)(const MatmulArgs&);

/// y[t * y_stride + c] += sum_r weights[t * weights_stride + r] * row_r[c]   for t < n_tokens, c < n_cols
struct WeightedSumArgs {
  const std::byte* rows;
  size_t row_stride_bytes;
  size_t n_rows, n_cols;
  const float* weights;      ///< [n_tokens, weights_stride]
  size_t weights_stride;
  size_t n_tokens;
  float* y;                  ///< [n_tokens, y_stride]
  size_t y_stride;
};
using WeightedSumFn = void (*)(const WeightedSumArgs&);

/// The operations on rows of one format.
struct Kernels {
  quant::Type type;
  MatmulFn matmul;             ///< few tokens: every weight byte is read once
  MatmulFn matmul_batch;       ///< many tokens: weights are expanded once per tile and reused over the batch
  WeightedSumFn weighted_sum;
};

/// From this many tokens on matmul_batch pays.
inline constexpr size_t kBatchTokens = 8;

/// One instruction set's kernels, a row per format of quant/formats.inc.
struct KernelSet {
  const char* isa;              ///< name for SHOEHORN_ISA: "scalar", "avx2", ...
  uint32_t cpu_features;        ///< base/cpu.h bits that it needs
  std::span<const Kernels> (*rows)();
};

/// All sets in this build, slowest first, including ones that this CPU cannot run.
std::span<const KernelSet> kernel_sets();

/// The set in use: the last one whose features the CPU has, or the one that the environment variable SHOEHORN_ISA names.
/// Fails when SHOEHORN_ISA names none or one that the CPU cannot run.
Expected<const KernelSet*> select_kernel_set();

/// The kernels of a set for a format.
const Kernels& kernels_for(const KernelSet& set, quant::Type type);

}  // namespace shoehorn::kernels
