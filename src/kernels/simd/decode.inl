// Products with few tokens: every weight byte is read once, row after row.

namespace shoehorn::kernels {
namespace {

/// Int8Rows: 256 activations.
struct Int8Super {
  int8_t q[kSuper];
  float scale[kGroups];  ///< x = scale * q; pairs are equal, the scale is of 32
  float sum[kGroups];    ///< of the scaled values, for the mins
};

constexpr size_t supers(size_t n_cols) { return (n_cols + kSuper - 1) / kSuper; }

/// Far enough ahead that a line from memory has arrived when its turn comes.
constexpr size_t kPrefetchBytes = 4096;

template <class Rows, size_t kTokens>
SHOEHORN_LAMBDA inline void int8_row(const MatmulArgs& a, const std::byte* row, const Int8Super* x, size_t n_supers, float* y) {
  constexpr size_t kChains = kTokens <= 2 ? 2 : 1;  // independent sums, to hide the latency of the adds
  F32 acc[kTokens][kChains] = {}, mins[kTokens] = {};
  for (size_t s = 0; s < n_supers; ++s) {
    Codes c;
    Rows::load(row, s, a.n_cols, c);
    constexpr size_t kRowBytes = Rows::kBlocks * Rows::kBlockBytes;
    unroll<(kRowBytes + 63) / 64>([&](auto i) SHOEHORN_LAMBDA {
      __builtin_prefetch(row + s * kRowBytes + kPrefetchBytes + i * 64, 0, 3);
    });
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
      const Int8Super& b = x[t * n_supers + s];
      F32 scale[kGroupVectors];
      unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA {
        scale[i] = c.scale[i] * load<F32>(b.scale + i * kLanes);
        mins[t] = multiply_add(c.min[i], load<F32>(b.sum + i * kLanes), mins[t]);
      });
      unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA {
        const I32 d = dot<Rows::kSigned>(I32{}, c.q[i], load<U8>(b.q + i * kBytes));
        F32& chain = acc[t][i % kChains];
        chain = multiply_add(to_float(d), spread_to_lanes(scale, i), chain);
      });
    });
  }
  unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
    F32 total = acc[t][0];
    if constexpr (kChains == 2) total += acc[t][1];
    y[t * a.y_stride] = sum(total - mins[t]);
  });
}

template <class Rows, size_t kTokens>
void int8_rows(const MatmulArgs& a, size_t token) {
  const size_t n_supers = supers(a.n_cols);
  const Int8Super* x = reinterpret_cast<const Int8Super*>(a.x) + token * n_supers;
  float* y = a.y + token * a.y_stride;
  for (size_t r = 0; r < a.n_rows; ++r) int8_row<Rows, kTokens>(a, a.rows + r * a.row_stride_bytes, x, n_supers, y + r);
}

template <class Rows>
void decode_int8(const MatmulArgs& a) {
  size_t token = 0;
  for (; token + 4 <= a.n_tokens; token += 4) int8_rows<Rows, 4>(a, token);
  switch (a.n_tokens - token) {
    case 3: int8_rows<Rows, 3>(a, token); break;
    case 2: int8_rows<Rows, 2>(a, token); break;
    case 1: int8_rows<Rows, 1>(a, token); break;
    default: break;
  }
}

template <class Rows, size_t kTokens>
void float_rows(const MatmulArgs& a, size_t token) {
  const float* x = reinterpret_cast<const float*>(a.x) + token * a.n_cols;
  const size_t n = a.n_cols;
  constexpr size_t kChains = kTokens == 1 ? 4 : kTokens == 2 ? 2 : 1;  // independent sums, to hide the latency of the adds
  for (size_t r = 0; r < a.n_rows; ++r) {
    const std::byte* row = a.rows + r * a.row_stride_bytes;
    F32 acc[kTokens][kChains] = {};
    float tail[kTokens] = {};
    size_t i = 0;
    for (; i + kChains * kLanes <= n; i += kChains * kLanes) {
      unroll<kChains>([&](auto c) SHOEHORN_LAMBDA {
        const F32 w = Rows::load(row, i + c * kLanes);
        unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA {
          acc[t][c] = multiply_add(w, load<F32>(x + t * n + i + c * kLanes), acc[t][c]);
        });
      });
    }
    for (; i < n; ++i) {
      const float w = Rows::at(row, i);
      for (size_t t = 0; t < kTokens; ++t) tail[t] += w * x[t * n + i];
    }
    for (size_t t = 0; t < kTokens; ++t) {
      F32 total = acc[t][0];
      for (size_t c = 1; c < kChains; ++c) total += acc[t][c];
      a.y[(token + t) * a.y_stride + r] = sum(total) + tail[t];
    }
  }
}

template <class Rows>
void decode_float(const MatmulArgs& a) {
  size_t token = 0;
  for (; token + 4 <= a.n_tokens; token += 4) float_rows<Rows, 4>(a, token);
  switch (a.n_tokens - token) {
    case 3: float_rows<Rows, 3>(a, token); break;
    case 2: float_rows<Rows, 2>(a, token); break;
    case 1: float_rows<Rows, 1>(a, token); break;
    default: break;
  }
}

}  // namespace
}  // namespace shoehorn::kernels
