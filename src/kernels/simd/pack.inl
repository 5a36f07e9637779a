// Activations into the layouts of kernels/kernel.h.
//   FloatRows        [token][column] floats
//   Int8Rows         [token][column / 256] Int8Super
//   Int8Rows256      [token][column / 256] TernarySuper
//   FloatTiles       [granule][column][token in granule] floats
//   Bf16Tiles        [granule][column / 2][token in granule][2] bfloat16, in the sets that have them
//   Int8Tiles<G>     codes [granule][column / kUnit][token in granule][kUnit] int8, then scales [granule][column / G][token in granule]
//                    floats, then sums of codes, in the same order, int32, times -kPanelBias
// Tokens past the end of the last granule are zero.

namespace shoehorn::kernels {
namespace {

constexpr size_t granules(size_t n_tokens) { return (n_tokens + kGranule - 1) / kGranule; }
constexpr size_t groups_of(size_t n_cols, size_t group) { return (n_cols + group - 1) / group; }

/// Where the parts of Int8Tiles<kGroup> are.
template <size_t kGroup>
struct Int8Tiles {
  Int8Tiles(const std::byte* base, size_t n_tokens, size_t columns)
      : n_cols(columns),
        codes(base),
        scales(reinterpret_cast<const float*>(base + granules(n_tokens) * kGranule * columns)),
        sums(reinterpret_cast<const int32_t*>(scales + granules(n_tokens) * kGranule * groups_of(columns, kGroup))) {}

  size_t code_offset(size_t granule, size_t column) const { return (granule * n_cols + column) * kGranule; }
  size_t group_offset(size_t granule, size_t group) const { return (granule * groups_of(n_cols, kGroup) + group) * kGranule; }

  size_t n_cols;
  const std::byte* codes;
  const float* scales;
  const int32_t* sums;
};

/// The largest magnitude of n floats, n a multiple of 16.
SHOEHORN_INLINE float largest_magnitude(const float* x, size_t n) {
  F32 most = {};
  for (size_t i = 0; i < n; i += kLanes) most = larger(most, absolute(load<F32>(x + i)));
  return largest(most);
}

/// q = round(x * inverse) for 16 floats; returns their sum.
SHOEHORN_INLINE int32_t quantize_16(const float* x, float inverse, int8_t* q) {
  I32 v[16 / kLanes], total = {};
  unroll<16 / kLanes>([&](auto i) SHOEHORN_LAMBDA {
    v[i] = round_to_int(load<F32>(x + i * kLanes) * inverse);
    total += v[i];
  });
  store_int8(q, v);
  return sum(total);
}

/// n floats, a multiple of 16, as int8 with one scale: x = scale * q.
struct Int8Group {
  float scale;
  int32_t total;  ///< of q
};
SHOEHORN_INLINE Int8Group quantize_group(const float* x, size_t n, int8_t* q) {
  const float most = largest_magnitude(x, n), inverse = most > 0 ? 127 / most : 0;
  int32_t total = 0;
  for (size_t i = 0; i < n; i += 16) total += quantize_16(x + i, inverse, q + i);
  return {most / 127, total};
}

void pack_float_rows(const PackArgs& a) {
  for (size_t t = a.begin; t < a.end; ++t) __builtin_memcpy(a.out + t * a.n_cols * sizeof(float), a.x + t * a.x_stride, a.n_cols * sizeof(float));
}

void pack_int8_rows(const PackArgs& a) {
  const size_t n_supers = supers(a.n_cols);
  for (size_t t = a.begin; t < a.end; ++t) {
    const float* x = a.x + t * a.x_stride;
    Int8Super* out = reinterpret_cast<Int8Super*>(a.out) + t * n_supers;
    for (size_t s = 0; s < n_supers; ++s) {
      Int8Super& b = out[s];
      const size_t n = a.n_cols - s * kSuper < kSuper ? a.n_cols - s * kSuper : kSuper;
      if (n < kSuper) __builtin_memset(&b, 0, sizeof b);
      for (size_t i = 0; i < n; i += 32) {
        const float* from = x + s * kSuper + i;
        const float most = largest_magnitude(from, 32), scale = most / 127, inverse = most > 0 ? 127 / most : 0;
        for (size_t h = 0; h < 2; ++h) {
          int8_t q[quant::kGroup];
          const int32_t total = quantize_16(from + 16 * h, inverse, q);
          b.set_group(i / 16 + h, q, scale, scale * static_cast<float>(total));
        }
      }
    }
  }
}

void pack_int8_rows_256(const PackArgs& a) {
  const size_t n_supers = supers(a.n_cols);
  for (size_t t = a.begin; t < a.end; ++t) {
    const float* x = a.x + t * a.x_stride;
    TernarySuper* out = reinterpret_cast<TernarySuper*>(a.out) + t * n_supers;
    for (size_t s = 0; s < n_supers; ++s, x += kSuper) {
      const Int8Group group = quantize_group(x, kSuper, out[s].q);
      out[s].scale = group.scale;
      out[s].minus_sum = -group.total;
    }
  }
}

void pack_float_tiles(const PackArgs& a) {
  float* out = reinterpret_cast<float*>(a.out);
  for (size_t t = a.begin; t < (a.end + kGranule - 1) / kGranule * kGranule; ++t) {
    float* to = out + t / kGranule * kGranule * a.n_cols + t % kGranule;
    const float* x = a.x + t * a.x_stride;
    if (t < a.end) {
      for (size_t c = 0; c < a.n_cols; ++c) to[c * kGranule] = x[c];
    } else {
      for (size_t c = 0; c < a.n_cols; ++c) to[c * kGranule] = 0;
    }
  }
}

template <size_t kGroup>
void pack_int8_tiles(const PackArgs& a) {
  const Int8Tiles<kGroup> tiles(a.out, a.n_tokens, a.n_cols);
  auto* codes = const_cast<std::byte*>(tiles.codes);
  auto* scales = const_cast<float*>(tiles.scales);
  auto* sums = const_cast<int32_t*>(tiles.sums);
  const size_t n_groups = groups_of(a.n_cols, kGroup);
  for (size_t t = a.begin; t < (a.end + kGranule - 1) / kGranule * kGranule; ++t) {
    const size_t granule = t / kGranule, lane = t % kGranule;
    const float* x = a.x + t * a.x_stride;
    for (size_t g = 0; g < n_groups; ++g) {
      const size_t first = g * kGroup, n = a.n_cols - first < kGroup ? a.n_cols - first : kGroup;
      alignas(64) int8_t q[kGroup] = {};
      const Int8Group group = t < a.end ? quantize_group(x + first, n, q) : Int8Group{};
      scales[tiles.group_offset(granule, g) + lane] = group.scale;
      sums[tiles.group_offset(granule, g) + lane] = -static_cast<int32_t>(kPanelBias) * group.total;
      std::byte* to = codes + tiles.code_offset(granule, first) + kUnit * lane;
      for (size_t i = 0; i < n; i += kUnit) __builtin_memcpy(to + i * kGranule, q + i, kUnit);
    }
  }
}

}  // namespace
}  // namespace shoehorn::kernels
