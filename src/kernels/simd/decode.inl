// Products with few tokens: every weight byte is read once, row after row.

namespace shoehorn::kernels {
namespace {

constexpr size_t supers(size_t n_cols) { return (n_cols + kSuper - 1) / kSuper; }

// One stream of addresses does not fill the memory's pipes: with one token, four rows that lie far apart are read side by side, each
// prefetched far enough ahead that a line has arrived when its turn comes.
constexpr size_t kPrefetchBytes = 2048;
constexpr size_t rows_at_once(size_t n_tokens) { return n_tokens == 1 ? 4 : n_tokens == 2 ? 2 : 1; }

#if !defined(SHOEHORN_OWN_INT8_SUPER)
/// Int8Rows: 256 activations.
struct Int8Super {
  int8_t q[kSuper];
  float scale[kGroups];  ///< x = scale * q; pairs are equal, the scale is of 32
  float sum[kGroups];    ///< of the scaled values, for the mins
};

SHOEHORN_INLINE void set_group(Int8Super& to, size_t group, float scale, float sum) {
  to.scale[group] = scale;
  to.sum[group] = sum;
}

/// acc += the products of 256 weights and activations but for the mins, which go to `mins`.
template <class Rows>
SHOEHORN_INLINE void add_super(const Codes& c, const Int8Super& x, F32& acc, F32& mins) {
  F32 scale[kGroupVectors];
  unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA {
    scale[i] = c.scale[i] * load<F32>(x.scale + i * kLanes);
    mins = multiply_add(c.min[i], load<F32>(x.sum + i * kLanes), mins);
  });
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA {
    const I32 d = dot<Rows::kSigned>(I32{}, c.q[i], load<U8>(x.q + i * kBytes));
    acc = multiply_add(to_float(d), spread_to_lanes(scale, i), acc);
  });
}
#endif

template <size_t kBytesRead>
SHOEHORN_INLINE void prefetch(const std::byte* from) {
  unroll<(kBytesRead + 63) / 64>([&](auto i) SHOEHORN_LAMBDA { __builtin_prefetch(from + kPrefetchBytes + i * 64, 0, 3); });
}

/// kRows rows, `distance` bytes apart, times kTokens tokens.
template <class Rows, size_t kRows, size_t kTokens>
SHOEHORN_INLINE void int8_rows(const MatmulArgs& a, const std::byte* rows, size_t distance, const Int8Super* x, size_t n_supers, float* y,
                               size_t y_distance) {
  constexpr size_t kSuperBytes = Rows::kBlocks * Rows::kBlockBytes;
  F32 acc[kRows][kTokens] = {}, mins[kRows][kTokens] = {};
  for (size_t s = 0; s < n_supers; ++s) {
    unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
      const std::byte* row = rows + r * distance;
      Codes c;
      Rows::load(row, s, a.n_cols, c);
      prefetch<kSuperBytes>(row + s * kSuperBytes);
      unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA { add_super<Rows>(c, x[t * n_supers + s], acc[r][t], mins[r][t]); });
      if constexpr (SHOEHORN_ROW_BY_ROW) asm volatile("" : : : "memory");
    });
  }
  unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA { y[t * a.y_stride + r * y_distance] = sum(acc[r][t] - mins[r][t]); });
  });
}

template <class Rows, size_t kTokens>
void int8_tokens(const MatmulArgs& a, size_t token) {
  constexpr size_t kRows = rows_at_once(kTokens);
  const size_t n_supers = supers(a.n_cols), part = a.n_rows / kRows;
  const Int8Super* x = reinterpret_cast<const Int8Super*>(a.x) + token * n_supers;
  float* y = a.y + token * a.y_stride;
  for (size_t r = 0; r < part; ++r) {
    int8_rows<Rows, kRows, kTokens>(a, a.rows + r * a.row_stride_bytes, part * a.row_stride_bytes, x, n_supers, y + r, part);
  }
  for (size_t r = kRows * part; r < a.n_rows; ++r) {
    int8_rows<Rows, 1, kTokens>(a, a.rows + r * a.row_stride_bytes, 0, x, n_supers, y + r, 0);
  }
}

template <class Rows>
void decode_int8(const MatmulArgs& a) {
  size_t token = 0;
  for (; token + 4 <= a.n_tokens; token += 4) int8_tokens<Rows, 4>(a, token);
  switch (a.n_tokens - token) {
    case 3: int8_tokens<Rows, 3>(a, token); break;
    case 2: int8_tokens<Rows, 2>(a, token); break;
    case 1: int8_tokens<Rows, 1>(a, token); break;
    default: break;
  }
}

template <class Rows, size_t kRows, size_t kTokens>
SHOEHORN_INLINE void float_rows(const MatmulArgs& a, const std::byte* rows, size_t distance, const float* x, float* y, size_t y_distance) {
  const size_t n = a.n_cols;
  constexpr size_t kElement = sizeof(typename Rows::Element), kStep = 64 / kElement;  // a line of every row at a time
  F32 acc[kRows][kTokens] = {};
  float tail[kRows][kTokens] = {};
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
      const std::byte* row = rows + r * distance;
      prefetch<64>(row + i * kElement);
      unroll<kStep / kLanes>([&](auto v) SHOEHORN_LAMBDA {
        const F32 w = Rows::load(row, i + v * kLanes);
        unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
          acc[r][t] = multiply_add(w, load<F32>(x + t * n + i + v * kLanes), acc[r][t]);
        });
      });
    });
  }
  for (; i < n; ++i) {
    for (size_t r = 0; r < kRows; ++r) {
      const float w = Rows::at(rows + r * distance, i);
      for (size_t t = 0; t < kTokens; ++t) tail[r][t] += w * x[t * n + i];
    }
  }
  unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA { y[t * a.y_stride + r * y_distance] = sum(acc[r][t]) + tail[r][t]; });
  });
}

template <class Rows, size_t kTokens>
void float_tokens(const MatmulArgs& a, size_t token) {
  constexpr size_t kRows = rows_at_once(kTokens);
  const size_t part = a.n_rows / kRows;
  const float* x = reinterpret_cast<const float*>(a.x) + token * a.n_cols;
  float* y = a.y + token * a.y_stride;
  for (size_t r = 0; r < part; ++r) {
    float_rows<Rows, kRows, kTokens>(a, a.rows + r * a.row_stride_bytes, part * a.row_stride_bytes, x, y + r, part);
  }
  for (size_t r = kRows * part; r < a.n_rows; ++r) {
    float_rows<Rows, 1, kTokens>(a, a.rows + r * a.row_stride_bytes, 0, x, y + r, 0);
  }
}

template <class Rows>
void decode_float(const MatmulArgs& a) {
  size_t token = 0;
  for (; token + 4 <= a.n_tokens; token += 4) float_tokens<Rows, 4>(a, token);
  switch (a.n_tokens - token) {
    case 3: float_tokens<Rows, 3>(a, token); break;
    case 2: float_tokens<Rows, 2>(a, token); break;
    case 1: float_tokens<Rows, 1>(a, token); break;
    default: break;
  }
}

}  // namespace
}  // namespace shoehorn::kernels
