// One conversation with a model: its KV cache and the forward pass.
#pragma once

#include <memory>
#include <span>

#include "base/aligned.h"
#include "base/thread_pool.h"
#include "engine/kv_cache.h"
#include "engine/model.h"
#include "engine/products.h"
#include "engine/rope.h"

namespace shoehorn::engine {

struct SessionOptions {
  size_t n_ctx = 0;                            ///< positions; 0: the trained context, at most 4096
  size_t n_batch = 512;                        ///< tokens per forward pass
  int n_threads = 0;                           ///< 0: default_thread_count()
  Affinity affinity = {};                      ///< the CPUs they stay on
  quant::Type key_type = quant::Type::F16;     ///< KV cache
  quant::Type value_type = quant::Type::F16;
};

/// Tokens on their way through the layers.
struct Stream {
  float* x;       ///< [n, n_embd]  residual stream, changed in place
  size_t n_past;  ///< position of the first token
  size_t n;       ///< at most n_batch()
  size_t n_out;   ///< the last n_out tokens come out of a layer; attention stores keys and values of all n
};

/// Not thread-safe; use one per thread of control. Results do not depend on the number of threads. They depend a little on how
/// tokens are split into batches: few tokens and many go through different kernels.
class Session {
 public:
  static Expected<Session> create(std::shared_ptr<const Model> model, const SessionOptions& options);

  /// Appends tokens at positions n_past() ... and computes the logits of the last `n_logits` of them (0: none).
  /// Returns [n_logits, n_vocab], valid until the next call. Fails with kTooLarge when the context is full, kInvalid for ids out
  /// of range; then nothing was appended.
  Expected<std::span<const float>> eval(std::span<const tokenizer::Token> tokens, size_t n_logits = 1);

  /// Forgets all positions from n on.
  void truncate(size_t n) { n_past_ = std::min(n_past_, n); }

  // A pass in its parts, for who takes many texts through one layer before the next. They neither read nor move n_past().

  /// x [tokens.size(), n_embd] of ids that are inside the vocabulary.
  void embed(std::span<const tokenizer::Token> tokens, float* x) const;
  /// Reads the layer's keys and values of the positions before stream.n_past, which must have gone through it last.
  void run_layer(size_t layer, const Stream& stream);
  /// out [n, n_embd]: what the output matrix reads.
  void norm_output(const float* x, size_t n, float* out);
  /// logits [n, n_vocab] of x [n, n_embd] after the last layer; n is at most n_batch().
  void multiply_output(const float* x, size_t n, float* logits);

  /// See Products::observe.
  void observe(ProductObserver* observer) { products_->observe(observer); }
  ThreadPool& pool() { return *pool_; }

  size_t n_past() const { return n_past_; }
  size_t n_ctx() const { return cache_.n_ctx(); }
  size_t n_batch() const { return n_batch_; }
  size_t n_vocab() const { return model_->hparams().n_vocab; }
  int n_threads() const { return pool_->size(); }
  const Model& model() const { return *model_; }
  const KvCache& cache() const { return cache_; }

 private:
  Session(std::shared_ptr<const Model> model, KvCache cache, size_t n_batch, int n_threads, Affinity affinity);

  void forward(std::span<const tokenizer::Token> tokens, size_t n_logits, float* logits);
  void attention_block(size_t layer, const Stream& stream);
  void mlp_block(size_t layer, const Stream& stream);
  void prepare_rotations(size_t first, size_t n);
  void rotate_and_store(size_t layer, const Stream& stream);
  void attend(size_t layer, const Stream& stream);
  void norm_rows(const Weight& gain, const float* x, size_t n, float* out);

  std::shared_ptr<const Model> model_;
  KvCache cache_;
  std::unique_ptr<ThreadPool> pool_;
  Rope rope_;
  const kernels::KernelTable* table_;
  const kernels::Kernels* key_kernels_;
  const kernels::Kernels* value_kernels_;
  std::unique_ptr<Products> products_;
  size_t n_batch_;
  size_t n_past_ = 0;
  size_t scratch_per_thread_ = 0;
  size_t first_rotation_ = 0, n_rotations_ = 0;

  // Activations of one batch.
  AlignedBuffer<float> x_;          // [n_batch, n_embd]  residual stream
  AlignedBuffer<float> normed_;     // [n_batch, n_embd]
  AlignedBuffer<float> q_;          // [n_batch, max n_head * head_dim]
  AlignedBuffer<float> k_, v_;      // [n_batch, max n_head_kv * head_dim]
  AlignedBuffer<float> attended_;   // [n_batch, max n_head * head_dim]
  AlignedBuffer<float> gated_;      // [n_batch, max n_ff]
  AlignedBuffer<float> rotations_;  // [n_batch, n_rot] of the positions from first_rotation_ on
  AlignedBuffer<float> scratch_;    // [n_threads, scratch_per_thread_]
  // Partial results of attention over ranges of positions: [range, token, head] outputs, maxima and sums.
  AlignedBuffer<float> partial_, partial_max_, partial_sum_;
  AlignedBuffer<float> logits_;     // [n_logits, n_vocab]
};

}  // namespace shoehorn::engine
