// Products with many tokens. A panel of rows is expanded, 256 columns at a time, into units of 32 bits that lie lane by lane as the
// multiply instructions read them (four int8, or one float, of one row), and is then multiplied with every token while it is in
// the first-level cache. Per step of the inner loop: kPanelVectors loads of weights, a broadcast per token, and a product of every
// weight register with every token.

namespace shoehorn::kernels {
namespace {

constexpr size_t kPanelRows = kPanelVectors * kLanes;
constexpr size_t kTileGranules = 3;  // granules of tokens in a register tile

/// Columns of one panel.
struct alignas(64) Int8Panel {
  I32 units[kSuper / 4][kPanelVectors];
  float scale[kSuper / 32][kPanelRows];  ///< per group of columns and row
};

/// Codes of 256 weights to int8 with one scale per kGroup columns, biased by kPanelBias. The bound of a group comes from its
/// scales and mins alone, so it may be a little wide. Multiplications are of 16 bits with 8 after the point.
template <size_t kGroup, int kMinCode, int kMaxCode>
SHOEHORN_INLINE void requantize(const Codes& c, size_t row, Int8Panel& panel, U8 (&out)[kCodeVectors]) {
  F32 bound[kGroupVectors];
  unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA {
    bound[i] = larger(absolute(c.scale[i] * static_cast<float>(kMinCode) - c.min[i]),
                      absolute(c.scale[i] * static_cast<float>(kMaxCode) - c.min[i]));
  });
  constexpr float kRange = 126.5f;  // leaves room for the rounding of the multipliers
  alignas(64) float inverse[kGroups];
  if constexpr (kGroup == kSuper) {
    F32 most = bound[0];
    for (size_t i = 1; i < kGroupVectors; ++i) most = larger(most, bound[i]);
    const float m = largest(most);
    panel.scale[0][row] = m / kRange;
    const float scaled = m > 1e-30f ? 256 * kRange / m : 0;
    unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA { store(inverse + i * kLanes, splat(scaled)); });
  } else {
    alignas(64) float bounds[kGroups];
    unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA { store(bounds + i * kLanes, bound[i]); });
    constexpr size_t kPer = kGroup / quant::kGroup;
    for (size_t g = 0; g < kSuper / kGroup; ++g) {
      float m = 0;
      for (size_t i = 0; i < kPer; ++i) m = bounds[g * kPer + i] > m ? bounds[g * kPer + i] : m;
      panel.scale[g][row] = m / kRange;
      for (size_t i = 0; i < kPer; ++i) inverse[g * kPer + i] = m > 1e-30f ? 256 * kRange / m : 0;
    }
  }
  alignas(64) uint16_t factor[kGroups], offset[kGroups];
  unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA {
    const F32 inv = load<F32>(inverse + i * kLanes);
    store_int16(factor + i * kLanes, round_to_int(c.scale[i] * inv));
    store_int16(offset + i * kLanes, round_to_int(splat(128.0f * 256 + 128) - c.min[i] * inv));
  });
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA {
    const U16 codes = (U16)c.q[i], f = spread_to_pairs(factor, i), o = spread_to_pairs(offset, i);
    const U16 low = kMinCode < 0 ? (U16)((I16)(codes << 8) >> 8) : codes & 255, high = kMinCode < 0 ? (U16)((I16)codes >> 8) : codes >> 8;
    const U16 even = low * f + o, odd = high * f + o;
    out[i] = (U8)((even >> 8) | (odd & 0xff00));
    if constexpr (kPanelBias == 0) out[i] ^= 128;
  });
}

/// Formats that are integers times a scale of 32 already: nothing is lost.
template <int kOffset>
SHOEHORN_INLINE void rebias(const Codes& c, size_t row, Int8Panel& panel, U8 (&out)[kCodeVectors]) {
  alignas(64) float scale[kGroups];
  unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA { store(scale + i * kLanes, c.scale[i]); });
  unroll<kSuper / 32>([&](auto g) SHOEHORN_LAMBDA { panel.scale[g][row] = scale[2 * g]; });
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA {
    out[i] = c.q[i] + static_cast<uint8_t>(static_cast<int>(kPanelBias) - kOffset);
  });
}

#if !defined(SHOEHORN_OWN_PANEL_PRODUCT)
/// Registers of one row each to the units of a panel.
SHOEHORN_INLINE void interleave(I32 (&r)[kLanes]) { transpose(r); }

/// acc[token][v] += the columns [first, end) of a panel times those of kTiles granules of tokens; lanes are rows of the panel.
template <size_t kTiles>
SHOEHORN_INLINE void multiply_columns(I32 (&acc)[kTiles * kGranule][kPanelVectors], const I32 (*units)[kPanelVectors],
                                      const std::byte* codes, size_t code_stride, size_t first, size_t end) {
  for (size_t k = first / 4; k < end / 4; ++k) {
    unroll<kTiles>([&](auto g) SHOEHORN_LAMBDA {
      const std::byte* quads = codes + g * code_stride + k * 4 * kGranule;
      unroll<kGranule>([&](auto lane) SHOEHORN_LAMBDA {
        unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA {
          I32& sum = acc[g * kGranule + lane][v];
          sum = dot_token<lane>(sum, (U8)units[k][v], quads);
        });
      });
    });
  }
}
#endif

template <class Rows, size_t kGroup>
SHOEHORN_INLINE void expand_panel(const MatmulArgs& a, size_t super, Int8Panel& panel) {
  for (size_t v = 0; v < kPanelVectors; ++v) {
    alignas(64) U8 units[kCodeVectors][kLanes];
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const size_t row = v * kLanes + lane;
      U8 out[kCodeVectors] = {};
      if (row < a.n_rows) {
        Codes c;
        Rows::load(a.rows + row * a.row_stride_bytes, super, a.n_cols, c);
        if constexpr (Rows::kExact) {
          rebias<Rows::kOffset>(c, row, panel, out);
        } else {
          requantize<kGroup, Rows::kMinCode, Rows::kMaxCode>(c, row, panel, out);
        }
      } else {
        for (size_t g = 0; g < kSuper / kGroup; ++g) panel.scale[g][row] = 0;
      }
      unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA { units[i][lane] = out[i]; });
    }
    for (size_t i = 0; i < kCodeVectors; ++i) {
      I32 r[kLanes];
      unroll<kLanes>([&](auto lane) SHOEHORN_LAMBDA { r[lane] = (I32)units[i][lane]; });
      interleave(r);
      unroll<kLanes>([&](auto k) SHOEHORN_LAMBDA { panel.units[i * kLanes + k][v] = r[k]; });
    }
  }
}

/// y += panel * tokens for kTiles granules of tokens. Out of line: it is the same for all formats.
template <size_t kTiles, size_t kGroup>
[[gnu::noinline]] void multiply_int8(const Int8Panel& panel, const Int8Tiles<kGroup>& x, size_t granule, size_t first_column, size_t n,
                                   float* y) {
  constexpr size_t kTokens = kTiles * kGranule;
  const std::byte* codes = x.codes + x.code_offset(granule, first_column);
  const size_t code_stride = x.code_offset(1, 0), group_stride = x.group_offset(1, 0);
  for (size_t first = 0; first < n; first += kGroup) {
    const size_t group = x.group_offset(granule, (first_column + first) / kGroup);
    I32 acc[kTokens][kPanelVectors];
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
      const I32 start = kPanelBias == 0 ? I32{} : splat(x.sums[group + t / kGranule * group_stride + t % kGranule]);
      unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { acc[t][v] = start; });
    });
    // A row is a multiple of 32, so only larger groups can end early.
    const size_t end = kGroup > 32 && n - first < kGroup ? n : first + kGroup;
    multiply_columns<kTiles>(acc, panel.units, codes, code_stride, first, end);
    F32 scale[kPanelVectors];
    unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { scale[v] = load<F32>(panel.scale[first / kGroup] + v * kLanes); });
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
      const F32 s = splat(x.scales[group + t / kGranule * group_stride + t % kGranule]);
      unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA {
        float* to = y + t * kPanelRows + v * kLanes;
        store(to, multiply_add(to_float(acc[t][v]) * scale[v], s, load<F32>(to)));
      });
    });
    asm volatile("" : : : "memory");  // y stays in y: the compiler would keep it in registers that there are not, and spill
  }
}

template <class Multiply>
SHOEHORN_INLINE void over_tokens(size_t n_tokens, const Multiply& multiply) {
  const size_t n = granules(n_tokens);
  size_t g = 0;
  for (; g + kTileGranules <= n; g += kTileGranules) multiply(std::integral_constant<size_t, kTileGranules>(), g);
  if (n - g == 2) multiply(std::integral_constant<size_t, 2>(), g);
  if (n - g == 1) multiply(std::integral_constant<size_t, 1>(), g);
}

template <class Rows, size_t kGroup>
void batch_int8(const MatmulArgs& a) {
  const Int8Tiles<kGroup> x(a.x, a.n_tokens, a.n_cols);
  __builtin_memset(a.y, 0, granules(a.n_tokens) * kGranule * kPanelRows * sizeof(float));
  Int8Panel panel;
  for (size_t super = 0; super < supers(a.n_cols); ++super) {
    const size_t first = super * kSuper, n = a.n_cols - first < kSuper ? a.n_cols - first : kSuper;
    expand_panel<Rows, kGroup>(a, super, panel);
    over_tokens(a.n_tokens, [&](auto tiles, size_t granule) SHOEHORN_LAMBDA {
      multiply_int8<tiles, kGroup>(panel, x, granule, first, n, a.y + granule * kGranule * kPanelRows);
    });
  }
}

/// y += panel * tokens, all floats. panel: [n][panel_stride], kPanelRows of it are used; x(t, k): column k of token t.
template <size_t kTokens, class X>
SHOEHORN_INLINE void multiply_floats(const float* panel, size_t panel_stride, size_t n, const X& x, float* y, size_t y_stride) {
  F32 acc[kTokens][kPanelVectors];
  unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
    unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { acc[t][v] = load<F32>(y + t * y_stride + v * kLanes); });
  });
  for (size_t k = 0; k < n; ++k) {
    F32 w[kPanelVectors];
    unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { w[v] = load<F32>(panel + k * panel_stride + v * kLanes); });
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
      const F32 value = splat(x(t, k));
      unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { acc[t][v] = multiply_add(w[v], value, acc[t][v]); });
    });
  }
  unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
    unroll<kPanelVectors>([&](auto v) SHOEHORN_LAMBDA { store(y + t * y_stride + v * kLanes, acc[t][v]); });
  });
}

/// Rows of floats [n_rows][stride] to a panel [n][kPanelRows], n a multiple of kLanes; rows past n_rows are zero.
SHOEHORN_INLINE void transpose_rows(const float* rows, size_t stride, size_t n_rows, size_t n, float* panel) {
  for (size_t v = 0; v < kPanelVectors; ++v) {
    for (size_t c = 0; c < n; c += kLanes) {
      I32 r[kLanes];
      unroll<kLanes>([&](auto lane) SHOEHORN_LAMBDA {
        const size_t row = v * kLanes + lane;
        r[lane] = row < n_rows ? load<I32>(rows + row * stride + c) : I32{};
      });
      transpose(r);
      unroll<kLanes>([&](auto k) SHOEHORN_LAMBDA { store(panel + (c + k) * kPanelRows + v * kLanes, r[k]); });
    }
  }
}

/// Columns of a float panel: what keeps it in the first-level cache beside the tokens.
constexpr size_t kFloatColumns = 128;

template <ExpandFn kExpand, size_t kBlockBytes, size_t kBlockSize>
void batch_float(const MatmulArgs& a) {
  const float* x = reinterpret_cast<const float*>(a.x);
  __builtin_memset(a.y, 0, granules(a.n_tokens) * kGranule * kPanelRows * sizeof(float));
  alignas(64) float rows[kPanelRows][kSuper];
  alignas(64) float panel[kFloatColumns * kPanelRows];
  for (size_t super = 0; super < a.n_cols; super += kSuper) {
    const size_t width = a.n_cols - super < kSuper ? a.n_cols - super : kSuper;
    for (size_t r = 0; r < a.n_rows; ++r) {
      kExpand(a.rows + r * a.row_stride_bytes + super / kBlockSize * kBlockBytes, width, rows[r]);
      for (size_t c = width; c < (width + kLanes - 1) / kLanes * kLanes; ++c) rows[r][c] = 0;
    }
    for (size_t c = 0; c < width; c += kFloatColumns) {
      const size_t n = width - c < kFloatColumns ? width - c : kFloatColumns;
      transpose_rows(&rows[0][c], kSuper, a.n_rows, (n + kLanes - 1) / kLanes * kLanes, panel);
      over_tokens(a.n_tokens, [&](auto tiles, size_t granule) SHOEHORN_LAMBDA {
        const float* from = x + (granule * a.n_cols + super + c) * kGranule;
        multiply_floats<tiles * kGranule>(
            panel, kPanelRows, n, [&](auto t, size_t k) SHOEHORN_LAMBDA { return from[t / kGranule * a.n_cols * kGranule + k * kGranule + t % kGranule]; },
            a.y + granule * kGranule * kPanelRows, kPanelRows);
      });
    }
  }
}

}  // namespace
}  // namespace shoehorn::kernels
