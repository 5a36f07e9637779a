// Products with few tokens: every weight byte is read once, row after row.

namespace shoehorn::kernels {
namespace {

constexpr size_t supers(size_t n_cols) { return (n_cols + kSuper - 1) / kSuper; }

// One stream of addresses does not fill the memory's pipes: with one token, four rows that lie far apart are read side by side, each
// prefetched far enough ahead that a line has arrived when its turn comes.
constexpr size_t kPrefetchBytes = 2048;
constexpr size_t rows_at_once(size_t n_tokens) { return n_tokens == 1 ? 4 : n_tokens == 2 ? 2 : 1; }

// A Super is 256 activations: what decode_int8 multiplies as many weights with. kParts of the weights are multiplied with all tokens before the
// next, for want of registers.

#if !defined(SHOEHORN_OWN_INT8_SUPER)
/// kLanes groups of 16 after the other, each in the order of transpose_quads().
struct Int8Super {
  static constexpr Layout kLayout = Layout::kInt8Rows;
  static constexpr size_t kParts = kGroupVectors;

  int8_t q[kSuper];
  float scale[kGroups];  ///< x = scale * q; those of 32 are equal
  float sum[kGroups];    ///< of the scaled values, for the mins

  SHOEHORN_LAMBDA inline void set_group(size_t group, const int8_t (&codes)[quant::kGroup], float its_scale, float its_sum) {
    constexpr size_t kPerRegister = kLanes / 4;
    const size_t first = group / kLanes * kLanes, lane = group % kPerRegister * 4 + group % kLanes / kPerRegister;
    for (size_t quad = 0; quad < 4; ++quad) {
      __builtin_memcpy(q + first * quant::kGroup + quad * kBytes + 4 * lane, codes + 4 * quad, 4);
    }
    scale[first + lane] = its_scale;
    sum[first + lane] = its_sum;
  }

  /// Brings a group's codes into one lane of four registers, as the activations lie: four multiplications after each other sum a
  /// group, and one conversion to float serves kLanes of them, for every token. The mins become what is to be added.
  static SHOEHORN_LAMBDA inline void arrange(Codes& c) {
    unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA {
      transpose_quads(c.q + 4 * i);
      c.scale[i] = lanes_of_quads(c.scale[i]);
      c.min[i] = -lanes_of_quads(c.min[i]);
    });
  }

  /// acc += the products of a part of 256 weights and activations
  template <class Rows>
  SHOEHORN_LAMBDA inline void add_part(const Codes& c, size_t part, F32& acc) const {
    I32 d = {};
    unroll<4>([&](auto i) SHOEHORN_LAMBDA { d = dot<Rows::kSigned>(d, c.q[4 * part + i], load<U8>(q + (4 * part + i) * kBytes)); });
    acc = multiply_add(to_float(d), c.scale[part] * load<F32>(scale + part * kLanes), acc);
    acc = multiply_add(c.min[part], load<F32>(sum + part * kLanes), acc);
  }
};
#endif

#if !defined(SHOEHORN_OWN_TERNARY_PRODUCTS)
/// acc + the products of 256 codes of at most two with int8, in any order of lanes
SHOEHORN_INLINE I32 ternary_products(I32 acc, const U8* w, const int8_t* x) {
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA { acc = dot<false>(acc, w[i], load<U8>(x + i * kBytes)); });
  return acc;
}
#endif

/// For ternary weights, d * (code - 1) with one d: with one scale of the activations, too, all sums stay integers, in any order. It is what
/// BitNet b1.58 is trained with (one scale per token there, Ma et al. 2024, arXiv:2402.17764).
struct TernarySuper {
  static constexpr Layout kLayout = Layout::kInt8Rows256;
  static constexpr size_t kParts = 1;

  alignas(64) int8_t q[kSuper];
  float scale;
  int32_t minus_sum;  ///< of q, times -1

  static SHOEHORN_LAMBDA inline void arrange(Codes&) {}

  template <class Rows>
  SHOEHORN_LAMBDA inline void add_part(const Codes& c, size_t, F32& acc) const {
    acc = multiply_add(to_float(ternary_products(I32{minus_sum}, c.q, q)), c.scale[0] * scale, acc);
  }
};

static_assert(sizeof(TernarySuper) == kSuper + 64, "layout_bytes() counts so many");

/// What a format's weights are multiplied with.
template <class Block> struct SuperOf { using Type = Int8Super; };
template <> struct SuperOf<quant::tq1_0::Block> { using Type = TernarySuper; };
template <> struct SuperOf<quant::tq2_0::Block> { using Type = TernarySuper; };

template <size_t kBytesRead>
SHOEHORN_INLINE void prefetch(const std::byte* from) {
  unroll<(kBytesRead + 63) / 64>([&](auto i) SHOEHORN_LAMBDA { __builtin_prefetch(from + kPrefetchBytes + i * 64, 0, 3); });
}

/// kRows rows, `distance` bytes apart, times kTokens tokens.
template <class Rows, class Super, size_t kRows, size_t kTokens>
SHOEHORN_INLINE void int8_rows(const MatmulArgs& a, const std::byte* rows, size_t distance, const Super* x, size_t n_supers, float* y,
                               size_t y_distance) {
  constexpr size_t kSuperBytes = Rows::kBlocks * Rows::kBlockBytes;
  F32 acc[kRows][kTokens] = {};
  for (size_t s = 0; s < n_supers; ++s) {
    unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
      const std::byte* row = rows + r * distance;
      Codes c;
      Rows::load(row, s, a.n_cols, c);
      Super::arrange(c);
      prefetch<kSuperBytes>(row + s * kSuperBytes);
      unroll<Super::kParts>([&](auto part) SHOEHORN_LAMBDA {
        unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA { x[t * n_supers + s].template add_part<Rows>(c, part, acc[r][t]); });
      });
      if constexpr (SHOEHORN_ROW_BY_ROW) asm volatile("" : : : "memory");
    });
  }
  unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
    unroll<kTokens>([&](auto t) SHOEHORN_LAMBDA { y[t * a.y_stride + r * y_distance] = sum(acc[r][t]); });
  });
}

template <class Rows, class Super, size_t kTokens>
void int8_tokens(const MatmulArgs& a, size_t token) {
  constexpr size_t kRows = rows_at_once(kTokens);
  const size_t n_supers = supers(a.n_cols), part = a.n_rows / kRows;
  const Super* x = reinterpret_cast<const Super*>(a.x) + token * n_supers;
  float* y = a.y + token * a.y_stride;
  for (size_t r = 0; r < part; ++r) {
    int8_rows<Rows, Super, kRows, kTokens>(a, a.rows + r * a.row_stride_bytes, part * a.row_stride_bytes, x, n_supers, y + r, part);
  }
  for (size_t r = kRows * part; r < a.n_rows; ++r) {
    int8_rows<Rows, Super, 1, kTokens>(a, a.rows + r * a.row_stride_bytes, 0, x, n_supers, y + r, 0);
  }
}

#if !defined(SHOEHORN_OWN_INT8_SUPER)
// With eight tokens the registers are the limit, not the memory: the activations that rows are multiplied with stay in the
// first-level cache, and so do the sums of a few rows. Each sum is of the same products in the same order as with fewer tokens.
constexpr size_t kManyTokens = 8, kBlockRows = 16, kBlockSupers = 8;

/// sums += the supers [begin, end) of a row times kManyTokens tokens
template <class Rows, class Super>
SHOEHORN_INLINE void int8_block(const MatmulArgs& a, const std::byte* row, const Super* x, size_t n_supers, size_t begin, size_t end,
                                F32 (&sums)[kManyTokens]) {
  constexpr size_t kSuperBytes = Rows::kBlocks * Rows::kBlockBytes;
  F32 acc[kManyTokens];
  unroll<kManyTokens>([&](auto t) SHOEHORN_LAMBDA { acc[t] = sums[t]; });
  for (size_t s = begin; s < end; ++s) {
    Codes c;
    Rows::load(row, s, a.n_cols, c);
    Super::arrange(c);
    // What the next rows will read here.
    const std::byte* next = row + kBlockRows * a.row_stride_bytes + s * kSuperBytes;
    unroll<(kSuperBytes + 63) / 64>([&](auto i) SHOEHORN_LAMBDA { __builtin_prefetch(next + i * 64, 0, 2); });
    unroll<Super::kParts>([&](auto part) SHOEHORN_LAMBDA {
      unroll<kManyTokens>([&](auto t) SHOEHORN_LAMBDA { x[t * n_supers + s].template add_part<Rows>(c, part, acc[t]); });
    });
  }
  unroll<kManyTokens>([&](auto t) SHOEHORN_LAMBDA { sums[t] = acc[t]; });
}

template <class Rows, class Super>
void int8_many_tokens(const MatmulArgs& a, size_t token) {
  const size_t n_supers = supers(a.n_cols);
  const Super* x = reinterpret_cast<const Super*>(a.x) + token * n_supers;
  for (size_t first = 0; first < a.n_rows; first += kBlockRows) {
    const size_t n = a.n_rows - first < kBlockRows ? a.n_rows - first : kBlockRows;
    const std::byte* rows = a.rows + first * a.row_stride_bytes;
    F32 sums[kBlockRows][kManyTokens] = {};
    for (size_t begin = 0; begin < n_supers; begin += kBlockSupers) {
      const size_t end = n_supers - begin < kBlockSupers ? n_supers : begin + kBlockSupers;
      for (size_t r = 0; r < n; ++r) int8_block<Rows, Super>(a, rows + r * a.row_stride_bytes, x, n_supers, begin, end, sums[r]);
    }
    for (size_t r = 0; r < n; ++r) {
      for (size_t t = 0; t < kManyTokens; ++t) a.y[(token + t) * a.y_stride + first + r] = sum(sums[r][t]);
    }
  }
}
#endif

template <class Rows, class Super>
void decode_int8(const MatmulArgs& a) {
  size_t token = 0;
#if !defined(SHOEHORN_OWN_INT8_SUPER)
  for (; token + kManyTokens <= a.n_tokens; token += kManyTokens) int8_many_tokens<Rows, Super>(a, token);
#endif
  for (; token + 4 <= a.n_tokens; token += 4) int8_tokens<Rows, Super, 4>(a, token);
  switch (a.n_tokens - token) {
    case 3: int8_tokens<Rows, Super, 3>(a, token); break;
    case 2: int8_tokens<Rows, Super, 2>(a, token); break;
    case 1: int8_tokens<Rows, Super, 1>(a, token); break;
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
