// The kernel table: what computes on rows of a format, per instruction set. A faster kernel is a new row; selection, tests and
// benchmarks read the same rows.
//
// A matrix product has two steps. The activations are packed once (`pack`) into the layout that the weights' kernel wants, for
// instance int8 with one scale per 32, and any number of products, on any threads, then read the packed form. There are two
// products: `decode` for few tokens, which reads every weight byte once and is bound by memory, and `batch` for many, which
// expands a panel of rows into the layout of the multiply units and reuses it over all tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/activation.h"
#include "base/status.h"
#include "hadamard/operations.h"
#include "quant/format.h"

namespace shoehorn::kernels {

/// Layouts of packed activations. What they hold is the kernel set's own business; simd/pack.inl writes them down.
enum class Layout : uint8_t {
  kFloatRows,     ///< floats as they are, row by row
  kFloatTiles,    ///< floats, interleaved over a few tokens
  kBf16Tiles,     ///< bfloat16 pairs, interleaved
  kInt8Rows,      ///< int8 with a scale and a sum per 32 and 16
  kInt8Rows256,   ///< int8 with a scale and a sum per 256
  kInt8Tiles32,   ///< int8, interleaved, a scale per 32
  kInt8Tiles256,  ///< int8, interleaved, a scale per 256
};
inline constexpr size_t kLayouts = 7;

/// `n_tokens` rows of x into `out` (layout_bytes() of the layout, 64-byte aligned). Tokens are packed in units of granule(): a call
/// may pack the tokens [begin, end) alone, with begin a multiple of it, into the same buffer.
struct PackArgs {
  const float* x;        ///< [n_tokens, x_stride]
  size_t x_stride;
  size_t n_tokens, n_cols;
  size_t begin, end;     ///< the tokens to pack in this call
  std::byte* out;
};
using PackFn = void (*)(const PackArgs&);

/// y[t * y_stride + r] = sum_c row_r[c] * x[t][c]   for t < n_tokens, r < n_rows
struct MatmulArgs {
  const std::byte* rows;     ///< n_rows rows of n_cols weights in the kernel's format
  size_t row_stride_bytes;   ///< distance between rows
  size_t n_rows, n_cols;     ///< n_cols is a multiple of the format's block
  const std::byte* x;        ///< packed activations
  size_t n_tokens;           ///< all tokens that were packed
  float* y;                  ///< [n_tokens, y_stride]
  size_t y_stride;
};
using MatmulFn = void (*)(const MatmulArgs&);

/// One row of weights as floats.
using ExpandFn = void (*)(const std::byte* row, size_t n, float* out);

/// Floats to a row, rounded to nearest without the encoder's search: for keys and values as they come.
using StoreFn = void (*)(const float* x, size_t n, std::byte* row);

/// A few rows of floats [n_floats, float_stride] and n_rows rows of a format, all of n_cols; results or weights [n_floats, y_stride].
struct FewArgs {
  const std::byte* rows;
  size_t row_stride_bytes, n_rows, n_cols;
  float* floats;
  size_t float_stride, n_floats;
  float* y;
  size_t y_stride;
  const std::byte* next;   ///< n_rows rows of next_stride_bytes that will be read soon, to be fetched meanwhile; or nullptr
  size_t next_stride_bytes;
};
using FewFn = void (*)(const FewArgs&);

/// The operations on rows of one format.
struct Kernels {
  quant::Type type;
  Layout decode_layout;   ///< what `decode` reads
  MatmulFn decode;        ///< any number of rows; meant for up to KernelTable::batch_from - 1 tokens
  Layout batch_layout;    ///< what `batch` reads
  MatmulFn batch;         ///< at most KernelTable::panel_rows rows. y is scratch that it writes several times: y_stride = panel_rows,
                          ///< and room for the tokens rounded up to whole granules
  ExpandFn expand;
  // For caches of keys and values; nullptr where a set has nothing better than expand and the encoder.
  StoreFn store = nullptr;
  FewFn scores = nullptr;   ///< y[f][r] = row_r . floats[f]; n_cols is a multiple of 16
  FewFn mix = nullptr;      ///< floats[f] += sum_r y[f][r] row_r; n_cols is a multiple of 16
};

/// Attention of one KV head: softmax(scale * q . K) V for a range of tokens and the query heads that share the KV head, over the
/// positions [first, end) that a token may see (token t: below n_past + t + 1). Tiled, never tokens x positions in memory
/// (Dao et al. 2022, arXiv:2205.14135; Rabe & Staats 2021, arXiv:2112.05682).
struct AttendArgs {
  const float* q;            ///< head h of token t at q + t * q_stride + h * head_dim
  size_t q_stride;
  size_t n_tokens, n_heads, head_dim;
  const std::byte* keys;     ///< position p at keys + p * key_stride
  const std::byte* values;
  size_t key_stride, value_stride;
  const Kernels* key;        ///< of the types of keys and values
  const Kernels* value;
  size_t n_past;             ///< positions before token 0
  size_t first, end;         ///< positions to look at
  float scale;
  float* out;                ///< as q, with out_stride; normalized over the range
  size_t out_stride;
  float* max;                ///< [n_tokens, n_heads] largest scaled score in the range, -inf when it is empty; or nullptr
  float* sum;                ///< [n_tokens, n_heads] sum of exp(score - max); or nullptr
  float* scratch;            ///< KernelTable::attend_scratch(head_dim) floats, 64-byte aligned
  float softcap = 0;         ///< c > 0: a score s becomes c tanh(s / c) (Gemma 2, arXiv:2408.00118, section 2)
  size_t window = 0;         ///< > 0: a token sees so many positions, the last of them its own
  /// [n_heads] ALiBi (Press et al. 2021, arXiv:2108.12409): a score loses so much for each position of distance; nullptr: nothing.
  const float* slopes = nullptr;

  /// The positions that token t sees: [first_seen(t), n_past + t].
  size_t first_seen(size_t t) const {
    const size_t n = n_past + t + 1;
    return window == 0 || n <= window ? 0 : n - window;
  }
};

/// One instruction set's operations.
struct KernelTable {
  std::span<const Kernels> formats;                             ///< a row per format of quant/formats.inc
  PackFn pack[kLayouts];                                        ///< nullptr: no kernel of this set reads the layout
  size_t granule;                                               ///< tokens that tiles interleave
  size_t panel_rows;                                            ///< rows that `batch` takes at a time
  size_t batch_from;                                            ///< from this many tokens on `batch` is the faster
  size_t attend_rows;                                           ///< query rows (tokens x heads) that attend takes at a time
  size_t (*attend_scratch)(size_t head_dim);                    ///< floats of scratch that attend needs
  void (*attend)(const AttendArgs&);
  /// out[i] = x[i] / sqrt(mean(x^2) + eps) * gain[i]; out may be x. Zhang & Sennrich 2019, arXiv:1910.07467.
  void (*rms_norm)(const float* x, const float* gain, size_t n, float eps, float* out);
  /// out[i] = (x[i] - mean(x)) / sqrt(var(x) + eps) * gain[i] + bias[i]; out may be x, bias nullptr. Ba et al. 2016, arXiv:1607.06450.
  void (*layer_norm)(const float* x, const float* gain, const float* bias, size_t n, float eps, float* out);
  /// gate[i] = f(gate[i]) * up[i], by Activation; up may be nullptr: f(gate[i]).
  void (*activate[kActivations])(float* gate, const float* up, size_t n);
  void (*add)(float* x, const float* y, size_t n);              ///< x[i] += y[i]
  hadamard::Operations<float> hadamard;                         ///< the steps of Hadamard transforms
  /// n rounds of multiplying and adding registers in the unit that `batch` uses for most formats: timed, it is the machine's peak.
  /// Returns the number of multiply-accumulates.
  uint64_t (*spin)(uint64_t n);
};

/// Bytes that activations take in a layout, rounded up to whole granules.
size_t layout_bytes(const KernelTable& table, Layout layout, size_t n_tokens, size_t n_cols);

struct KernelSet {
  const char* isa;              ///< name for SHOEHORN_ISA: "scalar", "avx2", ...
  uint32_t cpu_features;        ///< base/cpu.h bits that it needs
  uint32_t wanted_features;     ///< bits without which it is used only when SHOEHORN_ISA asks for it
  const KernelTable& (*table)();
};

/// All sets in this build, slowest first, including ones that this CPU cannot run.
std::span<const KernelSet> kernel_sets();

/// The set in use: the last one whose needed and wanted features the CPU has, or the one that the environment variable SHOEHORN_ISA
/// names. Fails when SHOEHORN_ISA names none or one that the CPU cannot run.
Expected<const KernelSet*> select_kernel_set();

/// The kernels of a set for a format.
const Kernels& kernels_for(const KernelTable& table, quant::Type type);

}  // namespace shoehorn::kernels
