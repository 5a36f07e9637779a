// One conversation with a model: its KV cache and its way through the forward pass.
#pragma once

#include <memory>
#include <span>

#include "base/aligned.h"
#include "engine/forward.h"

namespace shoehorn::engine {

/// See CacheTypes: where keys or values are transformed before they are rounded.
enum class CacheRotation {
  kWhereQuantized,  ///< those of a quantized type, when the heads have a Hadamard matrix
  kAlways,
  kNever,
};

struct SessionOptions {
  size_t n_ctx = 0;                            ///< positions; 0: the trained context, at most 4096
  size_t n_batch = 512;                        ///< tokens per forward pass
  int n_threads = 0;                           ///< 0: default_thread_count()
  Affinity affinity = {};                      ///< the CPUs they stay on
  quant::Type key_type = quant::Type::F16;     ///< KV cache
  quant::Type value_type = quant::Type::F16;
  CacheRotation cache_rotation = CacheRotation::kWhereQuantized;
};

/// The positions that a session gets.
size_t context_of(const SessionOptions& options, const models::Hparams& hparams);

/// How a session keeps keys and values.
CacheTypes cache_of(const SessionOptions& options, const models::Hparams& hparams);

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

  /// Adds adapters to the weights for what is evaluated from now on; what was computed before stays as it is.
  void adapt(Adapters adapters) { adapters_ = std::move(adapters); }
  const Adapters& adapters() const { return adapters_; }

  /// Forgets all positions from n on.
  void truncate(size_t n) { n_past_ = std::min(n_past_, n); }
  /// Goes on behind the first n positions of cache(), which were put there.
  void resume(size_t n) { n_past_ = n; }

  // A pass in its parts, for who takes many texts through one layer before the next. They neither read nor move n_past().

  /// x [tokens.size(), n_embd] of ids that are inside the vocabulary.
  void embed(std::span<const tokenizer::Token> tokens, float* x) const { forward_->embed(tokens, x); }
  /// Reads the layer's keys and values of the positions before stream.n_past, which must have gone through it last.
  void run_layer(size_t layer, const Stream& stream);
  /// out [n, n_embd]: what the output matrix reads.
  void norm_output(const float* x, size_t n, float* out) { forward_->norm_output(x, n, out); }
  /// logits [n, n_vocab] of x [n, n_embd] after the last layer; n is at most n_batch().
  void multiply_output(const float* x, size_t n, float* logits) { forward_->multiply_output(x, n, logits); }

  /// See Forward::round_activations.
  void round_activations(int bits) { forward_->round_activations(bits); }

  /// See Products::observe.
  void observe(ProductObserver* observer) { forward_->observe(observer); }
  /// Tells `observer` of every step of the passes from now on; nullptr: nobody. It must outlive this or be taken away.
  void observe_steps(StepObserver* observer) { forward_->observe_steps(observer); }
  ThreadPool& pool() { return forward_->pool(); }

  size_t n_past() const { return n_past_; }
  size_t n_ctx() const { return cache_.n_ctx(); }
  size_t n_batch() const { return forward_->max_tokens(); }
  size_t n_vocab() const { return model().hparams().n_vocab; }
  int n_threads() const { return forward_->pool().size(); }
  const Model& model() const { return *forward_->model(); }
  const std::shared_ptr<const Model>& shared_model() const { return forward_->model(); }
  const KvCache& cache() const { return cache_; }

 private:
  Session(std::unique_ptr<Forward> forward, KvCache cache) : forward_(std::move(forward)), cache_(std::move(cache)) {}

  std::unique_ptr<Forward> forward_;
  KvCache cache_;
  size_t n_past_ = 0;
  Adapters adapters_;
  AlignedBuffer<float> logits_;  // [n_logits, n_vocab]
};

}  // namespace shoehorn::engine
