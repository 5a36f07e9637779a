// Rows of keys and values: storing them as they come, and the two products of attention when a few query heads look at many
// positions, as in generating. A row is read once per four query heads.

namespace shoehorn::kernels {
namespace {

void store_f32_row(const float* x, size_t n, std::byte* row) { __builtin_memcpy(row, x, n * sizeof(float)); }

void store_f16_row(const float* x, size_t n, std::byte* row) {
  auto* out = reinterpret_cast<uint16_t*>(row);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f16(out + i, load<F32>(x + i));
  for (; i < n; ++i) out[i] = fp32_to_fp16(x[i]);
}

void store_bf16_row(const float* x, size_t n, std::byte* row) {
  auto* out = reinterpret_cast<uint16_t*>(row);
  for (size_t i = 0; i < n; ++i) out[i] = fp32_to_bf16(x[i]);
}

void store_q8_0_row(const float* x, size_t n, std::byte* row) {
  auto* blocks = reinterpret_cast<quant::q8_0::Block*>(row);
  for (size_t b = 0; b < n / 32; ++b, x += 32) {
    const float d = largest_magnitude(x, 32) / 127;
    blocks[b].d = fp32_to_fp16(d);
    const float stored = fp16_to_fp32(blocks[b].d), inverse = stored > 0 ? 1 / stored : 0;
    int8_t q[32];  // saturated: a scale rounded down may put the largest value at 128
    quantize_16(x, inverse, q);
    quantize_16(x + 16, inverse, q + 16);
    __builtin_memcpy(blocks[b].qs, q, 32);
  }
}

/// The value of largest magnitude becomes -8, which has no positive counterpart.
void store_q4_0_row(const float* x, size_t n, std::byte* row) {
  auto* blocks = reinterpret_cast<quant::q4_0::Block*>(row);
  for (size_t b = 0; b < n / 32; ++b, x += 32) {
    const float most = largest_magnitude(x, 32);
    float extreme = most;
    for (size_t i = 0; i < 32; ++i) extreme = x[i] == -most ? -most : extreme;
    blocks[b].d = fp32_to_fp16(extreme / -8);
    const float d = fp16_to_fp32(blocks[b].d), inverse = d != 0 ? 1 / d : 0;
    int8_t q[32];
    quantize_16(x, inverse, q);
    quantize_16(x + 16, inverse, q + 16);
    for (size_t i = 0; i < 16; ++i) {
      const int low = (q[i] > 7 ? 7 : q[i]) + 8, high = (q[16 + i] > 7 ? 7 : q[16 + i]) + 8;
      blocks[b].qs[i] = static_cast<uint8_t>(low | high << 4);
    }
  }
}

/// Query heads that share the reading of a row.
constexpr size_t kFew = 4;

SHOEHORN_INLINE void fetch_next(const FewArgs& a, size_t row) {
  if (a.next == nullptr) return;
  const std::byte* from = a.next + row * a.next_stride_bytes;
  for (size_t i = 0; i < a.next_stride_bytes; i += 64) __builtin_prefetch(from + i, 0, 3);
}

/// The head that place f of the kFew from `first` on works for: places without one repeat the last.
SHOEHORN_INLINE size_t head_of(const FewArgs& a, size_t first, size_t f) { return first + f < a.n_floats ? first + f : a.n_floats - 1; }

/// Scores of kFew query heads with kLanes / kFew rows at a time, whose sums over lanes are then taken together, times `factor`.
/// add_row(row, f -> the sum of head f with this row).
template <class AddRow>
SHOEHORN_INLINE void score_rows(const FewArgs& a, size_t first, F32 factor, const AddRow& add_row) {
  constexpr size_t kAtOnce = kLanes / kFew;
  for (size_t r = 0; r < a.n_rows; r += kAtOnce) {
    F32 acc[kLanes] = {};  // [head][row]
    unroll<kAtOnce>([&](auto k) SHOEHORN_LAMBDA {
      const size_t row_index = r + k < a.n_rows ? r + k : a.n_rows - 1;
      fetch_next(a, row_index);
      add_row(a.rows + row_index * a.row_stride_bytes, [&](auto f) SHOEHORN_LAMBDA -> F32& { return acc[f * kAtOnce + k]; });
    });
    alignas(64) float sums[kLanes];
    store(sums, lane_sums(acc) * factor);
    const size_t n = a.n_rows - r < kAtOnce ? a.n_rows - r : kAtOnce;
    for (size_t f = 0; f < kFew; ++f) {
      __builtin_memcpy(a.y + head_of(a, first, f) * a.y_stride + r, sums + f * kAtOnce, n * sizeof(float));
    }
  }
}

/// kVectors: registers in a row, 0 when not known.
template <class Rows, size_t kVectors>
SHOEHORN_INLINE void scores_of_heads(const FewArgs& a, size_t first) {
  const float* q[kFew];
  for (size_t f = 0; f < kFew; ++f) q[f] = a.floats + head_of(a, first, f) * a.float_stride;
  score_rows(a, first, splat(1.0f), [&](const std::byte* row, const auto& sum) SHOEHORN_LAMBDA {
    const auto step = [&](size_t i) SHOEHORN_LAMBDA {
      const F32 key = Rows::load(row, i);
      unroll<kFew>([&](auto f) SHOEHORN_LAMBDA { sum(f) = multiply_add(key, load<F32>(q[f] + i), sum(f)); });
    };
    if constexpr (kVectors != 0) {
      unroll<kVectors>([&](auto v) SHOEHORN_LAMBDA { step(v * kLanes); });
    } else {
      for (size_t i = 0; i < a.n_cols; i += kLanes) step(i);
    }
  });
}

template <class Rows>
void scores(const FewArgs& a) {
  for (size_t first = 0; first < a.n_floats; first += kFew) {
    if (a.n_cols == 64) {
      scores_of_heads<Rows, 64 / kLanes>(a, first);
    } else if (a.n_cols == 128) {
      scores_of_heads<Rows, 128 / kLanes>(a, first);
    } else {
      scores_of_heads<Rows, 0>(a, first);
    }
  }
}

/// Scores of keys in Q8_0: int8 products with the query rounded to int8, one scale per head. kVectors: registers in a row.
template <size_t kVectors>
SHOEHORN_INLINE void int8_scores(const FewArgs& a, size_t first) {
  U8 q[kFew][kVectors];
  I32 start[kFew][kVectors];  // takes out the bias of the keys' codes
  alignas(64) float scale[kLanes];
  for (size_t f = 0; f < kFew; ++f) {
    const float* x = a.floats + head_of(a, first, f) * a.float_stride;
    const float most = largest_magnitude(x, a.n_cols), inverse = most > 1e-30f ? 127 / most : 0;
    alignas(64) int8_t codes[kVectors * kBytes];
    for (size_t i = 0; i < a.n_cols; i += 16) quantize_16(x + i, inverse, codes + i);
    for (size_t k = 0; k < kLanes / kFew; ++k) scale[f * (kLanes / kFew) + k] = most / 127;
    unroll<kVectors>([&](auto v) SHOEHORN_LAMBDA {
      q[f][v] = load<U8>(codes + v * kBytes);
      start[f][v] = kSignedBias == 0 ? I32{} : -dot<false>(I32{}, U8{} + static_cast<uint8_t>(kSignedBias), q[f][v]);
    });
  }
  score_rows(a, first, load<F32>(scale), [&](const std::byte* row, const auto& sum) SHOEHORN_LAMBDA {
    const auto* blocks = reinterpret_cast<const quant::q8_0::Block*>(row);
    unroll<kVectors>([&](auto v) SHOEHORN_LAMBDA {
      F32 d;
      const U8 key = load_q8_0(blocks, v, d);
      unroll<kFew>([&](auto f) SHOEHORN_LAMBDA {
        sum(f) = multiply_add(to_float(dot<true>(start[f][v], key, q[f][v])), d, sum(f));
      });
    });
  });
}

void scores_q8_0(const FewArgs& a) {
  if (a.n_cols == 64) {
    for (size_t first = 0; first < a.n_floats; first += kFew) int8_scores<64 / kBytes>(a, first);
  } else if (a.n_cols == 128) {
    for (size_t first = 0; first < a.n_floats; first += kFew) int8_scores<128 / kBytes>(a, first);
  } else {
    scores<Q8Rows>(a);
  }
}

/// kCount query heads, kVectors registers of columns from `column` on, in registers over all rows.
template <class Rows, size_t kCount, size_t kVectors>
SHOEHORN_INLINE void mix_columns(const FewArgs& a, size_t first, size_t column) {
  F32 acc[kCount][kVectors];
  unroll<kCount>([&](auto f) SHOEHORN_LAMBDA {
    unroll<kVectors>([&](auto v) SHOEHORN_LAMBDA { acc[f][v] = load<F32>(a.floats + (first + f) * a.float_stride + column + v * kLanes); });
  });
  for (size_t r = 0; r < a.n_rows; ++r) {
    const std::byte* row = a.rows + r * a.row_stride_bytes;
    if (column == 0) fetch_next(a, r);
    F32 weight[kCount];
    unroll<kCount>([&](auto f) SHOEHORN_LAMBDA { weight[f] = splat(a.y[(first + f) * a.y_stride + r]); });
    unroll<kVectors>([&](auto v) SHOEHORN_LAMBDA {
      const F32 value = Rows::load(row, column + v * kLanes);
      unroll<kCount>([&](auto f) SHOEHORN_LAMBDA { acc[f][v] = multiply_add(value, weight[f], acc[f][v]); });
    });
  }
  unroll<kCount>([&](auto f) SHOEHORN_LAMBDA {
    unroll<kVectors>([&](auto v) SHOEHORN_LAMBDA { store(a.floats + (first + f) * a.float_stride + column + v * kLanes, acc[f][v]); });
  });
}

template <class Rows, size_t kCount>
SHOEHORN_INLINE void mix_heads(const FewArgs& a, size_t first) {
  constexpr size_t kVectors = kLanes == 16 ? 4 : 2;  // as many sums as there are registers for
  size_t column = 0;
  for (; column + kVectors * kLanes <= a.n_cols; column += kVectors * kLanes) mix_columns<Rows, kCount, kVectors>(a, first, column);
  for (; column < a.n_cols; column += kLanes) mix_columns<Rows, kCount, 1>(a, first, column);
}

template <class Rows>
void mix(const FewArgs& a) {
  size_t f = 0;
  for (; f + 4 <= a.n_floats; f += 4) mix_heads<Rows, 4>(a, f);
  switch (a.n_floats - f) {
    case 3: mix_heads<Rows, 3>(a, f); break;
    case 2: mix_heads<Rows, 2>(a, f); break;
    case 1: mix_heads<Rows, 1>(a, f); break;
    default: break;
  }
}

}  // namespace
}  // namespace shoehorn::kernels
