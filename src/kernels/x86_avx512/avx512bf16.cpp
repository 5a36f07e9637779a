// The set of avx512vnni with bfloat16 dot products for BF16 weights: activations are rounded to bfloat16, sums are floats.
#include "kernels/x86_avx512/unpack.h"

#include "kernels/kernel.h"
#include "quant/all_formats.h"

#include "kernels/simd/rows.inl"
#include "kernels/simd/decode.inl"
#include "kernels/simd/pack.inl"
#include "kernels/simd/batch.inl"

namespace shoehorn::kernels {

namespace avx512vnni {
const KernelTable& table();
}

namespace {

SHOEHORN_INLINE F32 dot_bf16(F32 acc, I32 a, I32 b) { return (F32)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b); }

/// Bf16Tiles: [granule][column / 2][token in granule][2]; an odd last column is followed by a zero.
void pack_bf16_tiles(const PackArgs& a) {
  const size_t n_pairs = (a.n_cols + 1) / 2;
  auto* out = reinterpret_cast<uint16_t*>(a.out);
  for (size_t t = a.begin; t < (a.end + kGranule - 1) / kGranule * kGranule; ++t) {
    uint16_t* to = out + 2 * (t / kGranule * kGranule * n_pairs + t % kGranule);
    const float* x = a.x + t * a.x_stride;
    for (size_t p = 0; p < n_pairs; ++p, to += 2 * kGranule) {
      to[0] = t < a.end ? fp32_to_bf16(x[2 * p]) : 0;
      to[1] = t < a.end && 2 * p + 1 < a.n_cols ? fp32_to_bf16(x[2 * p + 1]) : 0;
    }
  }
}

/// y += panel * tokens; panel: [n_pairs][kPanelVectors] pairs of weights.
template <size_t kTiles>
SHOEHORN_INLINE void multiply_pairs(const I32 (*panel)[kPanelVectors], size_t n_pairs, const std::byte* x, size_t granule_stride, float* y) {
  constexpr size_t kTokens = kTiles * kGranule;
  F32 acc[kTokens][kPanelVectors];
  unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
    unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { acc[t][v] = load<F32>(y + t * kPanelRows + v * kLanes); });
  });
  for (size_t p = 0; p < n_pairs; ++p) {
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
      const I32 pair = splat(load<int32_t>(x + t / kGranule * granule_stride + (p * kGranule + t % kGranule) * 4));
      unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { acc[t][v] = dot_bf16(acc[t][v], panel[p][v], pair); });
    });
  }
  unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
    unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { store(y + t * kPanelRows + v * kLanes, acc[t][v]); });
  });
}

void batch_bf16(const MatmulArgs& a) {
  __builtin_memset(a.y, 0, granules(a.n_tokens) * kGranule * kPanelRows * sizeof(float));
  const size_t n_pairs = (a.n_cols + 1) / 2;
  alignas(64) I32 panel[kSuper / 2][kPanelVectors];
  for (size_t first = 0; first < a.n_cols; first += kSuper) {
    const size_t n = a.n_cols - first < kSuper ? a.n_cols - first : kSuper, pairs = (n + 1) / 2;
    for (size_t v = 0; v < kPanelVectors; ++v) {
      for (size_t p = 0; p < pairs; p += kLanes) {
        I32 r[kLanes];
        unroll<kLanes>([&](auto lane) SHOEHORN_LAMBDA {
          const size_t row = v * kLanes + lane, left = n - 2 * p;
          const std::byte* from = a.rows + row * a.row_stride_bytes + (first + 2 * p) * 2;
          r[lane] = I32{};
          if (row < a.n_rows && left >= 2 * kLanes) {
            r[lane] = load<I32>(from);
          } else if (row < a.n_rows) {
            __builtin_memcpy(&r[lane], from, left * 2);
          }
        });
        transpose(r);
        unroll<kLanes>([&](auto k) SHOEHORN_LAMBDA { panel[p + k][v] = r[k]; });
      }
    }
    over_tokens(a.n_tokens, [&](auto tiles, size_t granule) SHOEHORN_LAMBDA {
      multiply_pairs<tiles>(panel, pairs, a.x + (granule * n_pairs + first / 2) * kGranule * 4, n_pairs * kGranule * 4,
                            a.y + granule * kGranule * kPanelRows);
    });
  }
}

constexpr size_t kMaxFormats = 64;

}  // namespace

namespace avx512bf16 {

const KernelTable& table() {
  static Kernels formats[kMaxFormats];
  static const KernelTable with_bf16 = [] {
    KernelTable table = avx512vnni::table();
    size_t n = 0;
    for (const Kernels& row : table.formats) {
      formats[n] = row;
      if (row.type == quant::Type::BF16) {
        formats[n].batch_layout = Layout::kBf16Tiles;
        formats[n].batch = batch_bf16;
      }
      ++n;
    }
    table.formats = {formats, n};
    table.pack[static_cast<size_t>(Layout::kBf16Tiles)] = pack_bf16_tiles;
    return table;
  }();
  return with_bf16;
}

}  // namespace avx512bf16

}  // namespace shoehorn::kernels
