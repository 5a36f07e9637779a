// Attention over tiles of positions with a running maximum and sum per query row (Dao et al. 2022, arXiv:2205.14135, algorithm 1).
// Keys and values of a tile are expanded to floats once for all query rows of a block: the query heads that share the KV head, of
// several tokens.

namespace shoehorn::kernels {
namespace {

constexpr size_t kAttendRows = 96;  // query rows of a block: eight register tiles of twelve
constexpr size_t kPositions = 128;  // positions of a tile
constexpr size_t kFewRows = 16;     // query rows up to which keys and values are read as they are
constexpr float kMinusInfinity = -__builtin_inff();

constexpr size_t padded_head(size_t head_dim) { return (head_dim + kPanelRows - 1) / kPanelRows * kPanelRows; }

constexpr size_t attend_scratch(size_t head_dim) {
  const size_t d = padded_head(head_dim);
  return 2 * kAttendRows * d + kAttendRows * kPositions + 2 * kPositions * d + kPanelRows * d;
}

/// x[row][k] with a fixed distance between rows.
SHOEHORN_INLINE auto row_major(const float* x, size_t stride) {
  return [=](auto t, size_t k) SHOEHORN_LAMBDA { return x[t * stride + k]; };
}

/// body(number of rows as a constant, first row) over `n` rows, padded to whole granules.
template <class Body>
SHOEHORN_INLINE void over_rows(size_t n, const Body& body) {
  over_tokens(n, [&](auto tiles, size_t granule) SHOEHORN_LAMBDA {
    body(std::integral_constant<size_t, tiles * kGranule>(), granule * kGranule);
  });
}

/// One tile of scores of a row to exp(score - max), 1e-38 where they are hidden. Updates max and sums, returns the factor by which
/// older sums shrink.
SHOEHORN_INLINE float soften(float* scores, float& max, F32& sums) {
  F32 most = load<F32>(scores);
  unroll<kPositions / kLanes - 1>([&](auto i) SHOEHORN_LAMBDA { most = larger(most, load<F32>(scores + (i + 1) * kLanes)); });
  const float tile_max = largest(most), new_max = tile_max > max ? tile_max : max;
  if (new_max == kMinusInfinity) {
    unroll<kPositions / kLanes>([&](auto i) SHOEHORN_LAMBDA { store(scores + i * kLanes, F32{}); });
    return 1;
  }
  float shrink = 1;
  if (new_max != max) {
    shrink = max == kMinusInfinity ? 0 : exponential(splat(max - new_max))[0];
    sums *= shrink;
    max = new_max;
  }
  unroll<kPositions / kLanes>([&](auto i) SHOEHORN_LAMBDA {
    const F32 p = exponential(load<F32>(scores + i * kLanes) - new_max);
    store(scores + i * kLanes, p);
    sums += p;
  });
  return shrink;
}

/// A tile of scores s of a row to cap tanh(s / cap): tanh(y) = 1 - 2 / (exp(2 y) + 1).
SHOEHORN_INLINE void bound_scores(float* scores, float cap) {
  for (size_t i = 0; i < kPositions; i += kLanes) {
    const F32 twice = load<F32>(scores + i) * (2 / cap);
    const F32 e = exponential(-larger(-twice, splat(-87.0f)));
    store(scores + i, (1.0f - 2.0f / (e + 1.0f)) * cap);
  }
}

/// Adds slope * (first + p) to score p.
SHOEHORN_INLINE void slope_scores(float* scores, float slope, float first) {
  for (size_t p = 0; p < kPositions; ++p) scores[p] += slope * (first + static_cast<float>(p));
}

/// Rows [first_row, first_row + n_rows) of the tokens x heads rows of `a`.
void attend_rows(const AttendArgs& a, size_t first_row, size_t n_rows) {
  const size_t head = a.head_dim, width = padded_head(head);
  float* q = a.scratch;                           // [kAttendRows][width]
  float* out = q + kAttendRows * width;           // [kAttendRows][width]
  float* scores = out + kAttendRows * width;      // [kAttendRows][kPositions]
  float* rows = scores + kAttendRows * kPositions;  // [kPositions][width], keys
  float* values = rows + kPositions * width;      // [kPositions][width]
  float* panel = values + kPositions * width;     // [width][kPanelRows], keys of a panel of positions
  const size_t padded_rows = granules(n_rows) * kGranule;
  float max[kAttendRows];
  F32 sums[kAttendRows];

  const auto token_of = [&](size_t r) SHOEHORN_LAMBDA { return (first_row + r) / a.n_heads; };
  const auto head_of = [&](size_t r) SHOEHORN_LAMBDA { return (first_row + r) % a.n_heads; };
  // Few rows do not pay for expanding a tile.
  const bool few = n_rows <= kFewRows && head % 16 == 0 && a.key->scores != nullptr && a.value->mix != nullptr;
  __builtin_memset(q, 0, padded_rows * width * sizeof(float));
  __builtin_memset(out, 0, padded_rows * width * sizeof(float));
  for (size_t r = 0; r < n_rows; ++r) {
    const float* from = a.q + token_of(r) * a.q_stride + head_of(r) * head;
    for (size_t d = 0; d < head; ++d) q[r * width + d] = from[d] * a.scale;
    max[r] = kMinusInfinity;
    sums[r] = F32{};
  }
  if (width > head && !few) {
    __builtin_memset(rows, 0, kPositions * width * sizeof(float));
    __builtin_memset(values, 0, kPositions * width * sizeof(float));
  }

  const size_t last_visible = a.n_past + token_of(n_rows - 1) + 1;
  const size_t end = a.end < last_visible ? a.end : last_visible;
  const size_t first_seen = a.first_seen(token_of(0));
  for (size_t p0 = a.first > first_seen ? a.first : first_seen; p0 < end; p0 += kPositions) {
    const size_t n = end - p0 < kPositions ? end - p0 : kPositions;
    if (few) {
      a.key->scores({a.keys + p0 * a.key_stride, a.key_stride, n, head, q, width, n_rows, scores, kPositions,
                     a.values + p0 * a.value_stride, a.value_stride});
    } else {
      for (size_t p = 0; p < n; ++p) a.key->expand(a.keys + (p0 + p) * a.key_stride, head, rows + p * width);
      __builtin_memset(scores, 0, padded_rows * kPositions * sizeof(float));
      for (size_t first = 0; first < n; first += kPanelRows) {
        transpose_rows(rows + first * width, width, n - first, width, panel);
        over_rows(n_rows, [&](auto count, size_t row) SHOEHORN_LAMBDA {
          multiply_floats<count>(panel, kPanelRows, head, row_major(q + row * width, width), scores + row * kPositions + first, kPositions);
        });
      }
    }
    for (size_t r = 0; r < n_rows; ++r) {
      float* s = scores + r * kPositions;
      const size_t visible = a.n_past + token_of(r) + 1;
      const size_t seen = visible <= p0 ? 0 : visible - p0 < n ? visible - p0 : n;
      if (a.softcap > 0) bound_scores(s, a.softcap);
      if (a.slopes != nullptr) slope_scores(s, a.slopes[head_of(r)], static_cast<float>(p0) - static_cast<float>(visible - 1));
      for (size_t p = seen; p < kPositions; ++p) s[p] = kMinusInfinity;
      for (size_t p = p0; p < a.first_seen(token_of(r)) && p < p0 + kPositions; ++p) s[p - p0] = kMinusInfinity;
      const float shrink = soften(s, max[r], sums[r]);
      if (shrink != 1) {
        for (size_t d = 0; d < width; d += kLanes) store(out + r * width + d, load<F32>(out + r * width + d) * shrink);
      }
    }
    if (few) {
      const bool last = p0 + 2 * kPositions > end;  // the next tile is not whole
      a.value->mix({a.values + p0 * a.value_stride, a.value_stride, n, head, out, width, n_rows, scores, kPositions,
                    last ? nullptr : a.keys + (p0 + kPositions) * a.key_stride, a.key_stride});
    } else {
      for (size_t p = 0; p < n; ++p) a.value->expand(a.values + (p0 + p) * a.value_stride, head, values + p * width);
      for (size_t d = 0; d < width; d += kPanelRows) {
        over_rows(n_rows, [&](auto count, size_t row) SHOEHORN_LAMBDA {
          multiply_floats<count>(values + d, width, n, row_major(scores + row * kPositions, kPositions), out + row * width + d, width);
        });
      }
    }
  }

  for (size_t r = 0; r < n_rows; ++r) {
    float* to = a.out + token_of(r) * a.out_stride + head_of(r) * head;
    const float total = sum(sums[r]), inverse = total > 0 ? 1 / total : 0;
    for (size_t d = 0; d < head; ++d) to[d] = out[r * width + d] * inverse;
    if (a.max != nullptr) a.max[first_row + r] = max[r];
    if (a.sum != nullptr) a.sum[first_row + r] = total;
  }
}

void attend(const AttendArgs& a) {
  const size_t n = a.n_tokens * a.n_heads;
  for (size_t row = 0; row < n; row += kAttendRows) attend_rows(a, row, n - row < kAttendRows ? n - row : kAttendRows);
}

}  // namespace
}  // namespace shoehorn::kernels
