// The two steps of a Hadamard transform (hadamard/transform.h).

namespace shoehorn::kernels {
namespace {

/// Butterflies between the lanes of a register that are `half` apart: a + b where a was, a - b where b was.
template <size_t half>
SHOEHORN_INLINE F32 lane_butterflies(F32 v) {
  return [&]<size_t... i>(std::index_sequence<i...>) __attribute__((always_inline)) {
    const F32 signs = {((i & half) != 0 ? -1.0f : 1.0f)...};
    return __builtin_shufflevector(v, v, (i ^ half)...) + v * signs;
  }(std::make_index_sequence<kLanes>());
}

/// The levels below a register's width, as far as there are.
SHOEHORN_INLINE F32 narrow_levels(F32 v, size_t block) {
  if (block > 1) v = lane_butterflies<1>(v);
  if (block > 2) v = lane_butterflies<2>(v);
  if constexpr (kLanes > 4) {
    if (block > 4) v = lane_butterflies<4>(v);
  }
  if constexpr (kLanes > 8) {
    if (block > 8) v = lane_butterflies<8>(v);
  }
  return v;
}

/// Two levels at once, of pairs `half` and 2 * half apart, over x [n].
SHOEHORN_INLINE void two_levels(float* x, size_t n, size_t half) {
  for (size_t first = 0; first < n; first += 4 * half) {
    for (float* at = x + first; at < x + first + half; at += kLanes) {
      const F32 a = load<F32>(at), b = load<F32>(at + half), c = load<F32>(at + 2 * half), d = load<F32>(at + 3 * half);
      const F32 sum_ab = a + b, sum_cd = c + d, difference_ab = a - b, difference_cd = c - d;
      store(at, sum_ab + sum_cd);
      store(at + half, difference_ab + difference_cd);
      store(at + 2 * half, sum_ab - sum_cd);
      store(at + 3 * half, difference_ab - difference_cd);
    }
  }
}

SHOEHORN_INLINE void one_level(float* x, size_t n, size_t half) {
  for (size_t first = 0; first < n; first += 2 * half) {
    for (float* at = x + first; at < x + first + half; at += kLanes) {
      const F32 a = load<F32>(at), b = load<F32>(at + half);
      store(at, a + b);
      store(at + half, a - b);
    }
  }
}

void butterflies(float* x, size_t n, size_t log2, float scale) {
  const size_t block = size_t{1} << log2;
  // A block at a time stays in the first-level cache.
  const size_t step = block > kLanes ? block : kLanes;
  size_t i = 0;
  for (; i + step <= n; i += step) {
    for (size_t k = 0; k < step; k += kLanes) store(x + i + k, narrow_levels(load<F32>(x + i + k) * scale, block));
    size_t half = kLanes;
    for (; 4 * half <= block; half *= 4) two_levels(x + i, step, half);
    if (2 * half <= block) one_level(x + i, step, half);
  }
  // Blocks narrower than a register that do not fill the last one.
  if (i < n) store_some(x + i, narrow_levels(load_some(x + i, n - i) * scale, block), n - i);
}

/// kRows rows of the result, kColumns registers of columns.
template <size_t kRows, size_t kColumns>
SHOEHORN_INLINE void mix_tile(const float* matrix, size_t order, const float* x, size_t stride, float* out) {
  F32 sums[kRows][kColumns] = {};
  for (size_t j = 0; j < order; ++j) {
    F32 columns[kColumns];
    unroll<kColumns>([&](auto c) SHOEHORN_LAMBDA { columns[c] = load<F32>(x + j * stride + c * kLanes); });
    unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
      const F32 factor = splat(matrix[r * order + j]);
      unroll<kColumns>([&](auto c) SHOEHORN_LAMBDA { sums[r][c] = multiply_add(factor, columns[c], sums[r][c]); });
    });
  }
  unroll<kRows>([&](auto r) SHOEHORN_LAMBDA {
    unroll<kColumns>([&](auto c) SHOEHORN_LAMBDA { store(out + r * stride + c * kLanes, sums[r][c]); });
  });
}

void mix_rows(const float* matrix, size_t order, const float* x, size_t stride, float* out) {
  constexpr size_t kRows = 4, kColumns = 2;
  size_t k = 0;
  const auto strip = [&]<size_t columns>() SHOEHORN_LAMBDA {
    for (; k + columns * kLanes <= stride; k += columns * kLanes) {
      size_t i = 0;
      for (; i + kRows <= order; i += kRows) mix_tile<kRows, columns>(matrix + i * order, order, x + k, stride, out + i * stride + k);
      for (; i < order; ++i) mix_tile<1, columns>(matrix + i * order, order, x + k, stride, out + i * stride + k);
    }
  };
  strip.template operator()<kColumns>();
  strip.template operator()<1>();
  // Columns that fill no register: a product of a row and a column for each.
  for (; k < stride; ++k) {
    for (size_t i = 0; i < order; ++i) {
      float sum = 0;
      for (size_t j = 0; j < order; ++j) sum += matrix[i * order + j] * x[j * stride + k];
      out[i * stride + k] = sum;
    }
  }
}

}  // namespace
}  // namespace shoehorn::kernels
