#include "engine/products.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::engine {
namespace {

/// Rows of a decode task: long enough a stretch of memory to stream, short enough to share out.
constexpr size_t kDecodeBytes = 384 << 10;
constexpr size_t kMinDecodeRows = 16;
constexpr size_t kPackGranules = 4;

/// The rows of a product in tasks of `rows`.
struct Share {
  const Product* product;
  const std::byte* x;
  const std::byte* up_x;
  size_t rows, first_task;
};

size_t decode_rows_per_task(const Weight& weight, int n_threads) {
  const size_t by_bytes = kDecodeBytes / weight.row_bytes;
  const size_t by_threads = weight.n_rows / (4 * static_cast<size_t>(n_threads));  // the last task of a thread is a quarter at most
  return std::max(kMinDecodeRows, std::min(by_bytes, by_threads));
}

void round_row(const float* x, size_t n, int bits, float* out) {
  float largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  const float step = largest / static_cast<float>((1 << (bits - 1)) - 1);
  if (step == 0) {
    std::fill_n(out, n, 0.0f);
    return;
  }
  for (size_t i = 0; i < n; ++i) out[i] = std::nearbyint(x[i] / step) * step;
}

}  // namespace

Products::Products(const kernels::KernelTable& table, ThreadPool& pool) : table_(table), pool_(pool) {}

void Products::set_input(const float* x, size_t n_tokens, size_t n_cols, int bits) {
  x_ = x;
  if (bits > 0) {
    rounded_.reserve(n_tokens * n_cols);
    pool_.parallel_for(n_tokens, 8, [&](size_t begin, size_t end, int) {
      for (size_t t = begin; t < end; ++t) round_row(x + t * n_cols, n_cols, bits, rounded_.data() + t * n_cols);
    });
    x_ = rounded_.data();
  }
  n_tokens_ = n_tokens;
  n_cols_ = n_cols;
  is_packed_.fill(false);
}

const std::byte* Products::packed(kernels::Layout layout) {
  if (layout == kernels::Layout::kFloatRows) return reinterpret_cast<const std::byte*>(x_);
  const auto index = static_cast<size_t>(layout);
  AlignedBuffer<std::byte>& buffer = packed_[index];
  if (is_packed_[index]) return buffer.data();
  buffer.reserve(kernels::layout_bytes(table_, layout, n_tokens_, n_cols_));
  pool_.parallel_for(n_tokens_, kPackGranules * table_.granule, [&](size_t begin, size_t end, int) {
    table_.pack[index]({x_, n_cols_, n_tokens_, n_cols_, begin, end, buffer.data()});
  });
  is_packed_[index] = true;
  return buffer.data();
}

void Products::tell_observer(std::initializer_list<Product> products) const {
  std::array<const Weight*, 8> weights;
  size_t n = 0;
  for (const Product& product : products) {
    weights[n++] = &product.weight;
    if (product.up != nullptr) weights[n++] = product.up;
  }
  observer_->on_input({weights.data(), n}, x_, n_tokens_, n_cols_, pool_);
}

void Products::run(std::initializer_list<Product> products) {
  if (observer_ != nullptr) tell_observer(products);
  const bool batch = is_batch();
  std::array<Share, 4> shares;
  size_t n_shares = 0, n_tasks = 0, scratch_rows = 0;
  for (const Product& product : products) {
    const Weight& w = product.weight;
    const auto input_of = [&](const Weight& weight) { return packed(batch ? weight.kernels->batch_layout : weight.kernels->decode_layout); };
    const size_t rows = batch ? table_.panel_rows : decode_rows_per_task(w, pool_.size());
    shares[n_shares++] = {&product, input_of(w), product.up != nullptr ? input_of(*product.up) : nullptr, rows, n_tasks};
    n_tasks += (w.n_rows + rows - 1) / rows;
    scratch_rows = std::max(scratch_rows, rows);
  }
  const size_t per_thread = 2 * whole_granules() * scratch_rows;
  scratch_.reserve(per_thread * static_cast<size_t>(pool_.size()));
  pool_.parallel_for(n_tasks, 1, [&](size_t begin, size_t end, int thread) {
    float* scratch = scratch_.data() + per_thread * static_cast<size_t>(thread);
    for (size_t task = begin; task < end; ++task) {
      size_t s = n_shares - 1;
      while (task < shares[s].first_task) --s;
      const Share& share = shares[s];
      const size_t first = (task - share.first_task) * share.rows;
      const size_t last = std::min(share.product->weight.n_rows, first + share.rows);
      multiply_rows(*share.product, share.x, share.up_x, first, last, scratch);
    }
  });
}

/// Rows [begin, end) into a tile [token][stride] in scratch, and from there to y.
void Products::multiply_rows(const Product& product, const std::byte* x, const std::byte* up_x, size_t begin, size_t end,
                             float* scratch) const {
  const bool batch = is_batch();
  const size_t n = end - begin, stride = batch ? table_.panel_rows : n;
  const auto multiply = [&](const Weight& w, const std::byte* input, float* y) {
    const auto kernel = batch ? w.kernels->batch : w.kernels->decode;
    kernel({w.data + begin * w.row_bytes, w.row_bytes, n, w.n_cols, input, n_tokens_, y, stride});
  };
  float* up = scratch + whole_granules() * stride;
  multiply(product.weight, x, scratch);
  if (product.up != nullptr) multiply(*product.up, up_x, up);
  finish(product, begin, n, scratch, up, stride);
}

void Products::finish(const Product& product, size_t begin, size_t n, float* tile, float* up, size_t stride) const {
  for (size_t t = 0; t < n_tokens_; ++t) {
    float* row = tile + t * stride;
    if (product.bias) table_.add(row, product.bias.floats() + begin, n);
    float* up_row = product.up == nullptr ? nullptr : up + t * stride;
    if (up_row != nullptr && *product.up_bias) table_.add(up_row, product.up_bias->floats() + begin, n);
    if (product.activation) table_.activate[static_cast<size_t>(*product.activation)](row, up_row, n);
    float* y = product.y + t * product.weight.n_rows + begin;
    if (product.accumulate) {
      table_.add(y, row, n);
    } else {
      std::copy_n(row, n, y);
    }
  }
}

}  // namespace shoehorn::engine
