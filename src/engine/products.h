// Matrix products over a thread pool: packs the activations once for all weights that read them, shares out the rows, and does
// what follows a product (bias, gate, the residual sum) while its result is in the cache.
#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <span>

#include "base/aligned.h"
#include "base/thread_pool.h"
#include "engine/model.h"

namespace shoehorn::engine {

/// y[t] = weight x[t] + bias for the tokens of the input; with `activation`: of that; with `up`, times (up x + up_bias).
struct Product {
  const Weight& weight;
  const Weight& bias;               ///< may be empty
  float* y;                         ///< [n_tokens, weight.n_rows]
  const Weight* up = nullptr;       ///< same shape as weight; with an activation only
  const Weight* up_bias = nullptr;  ///< may be empty
  bool accumulate = false;          ///< y += instead of y =
  std::optional<Activation> activation = {};
};

/// Sees what matrix products read.
class ProductObserver {
 public:
  virtual ~ProductObserver() = default;
  /// x [n_tokens, n_cols] is about to be multiplied with each of `weights`. Called from the thread that runs the pass; `pool` is idle.
  virtual void on_input(std::span<const Weight* const> weights, const float* x, size_t n_tokens, size_t n_cols, ThreadPool& pool) = 0;
};

class Products {
 public:
  /// Both must outlive this.
  Products(const kernels::KernelTable& table, ThreadPool& pool);

  /// Makes x [n_tokens, n_cols] the input of the products that follow. It must stay unchanged until they are done. With
  /// `bits` > 0, x rounded to whole multiples of each token's max |x| / (2^(bits - 1) - 1).
  void set_input(const float* x, size_t n_tokens, size_t n_cols, int bits = 0);

  /// Tells `observer` of every product from now on; nullptr: nobody. It must outlive this or be taken away.
  void observe(ProductObserver* observer) { observer_ = observer; }

  /// At most four products, which all read the input; their rows are shared out together.
  void run(std::initializer_list<Product> products);

 private:
  bool is_batch() const { return n_tokens_ >= table_.batch_from; }
  size_t whole_granules() const { return (n_tokens_ + table_.granule - 1) / table_.granule * table_.granule; }
  const std::byte* packed(kernels::Layout layout);
  void tell_observer(std::initializer_list<Product> products) const;
  void multiply_rows(const Product& product, const std::byte* x, const std::byte* up_x, size_t begin, size_t end, float* scratch) const;
  void finish(const Product& product, size_t begin, size_t n, float* tile, float* up, size_t stride) const;

  const kernels::KernelTable& table_;
  ThreadPool& pool_;
  ProductObserver* observer_ = nullptr;
  const float* x_ = nullptr;
  size_t n_tokens_ = 0, n_cols_ = 0;
  std::array<AlignedBuffer<std::byte>, kernels::kLayouts> packed_;
  std::array<bool, kernels::kLayouts> is_packed_{};
  AlignedBuffer<float> rounded_;  // [n_tokens, n_cols]
  AlignedBuffer<float> scratch_;  // [n_threads, scratch_per_thread]
};

}  // namespace shoehorn::engine
