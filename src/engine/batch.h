// Several conversations with one model, evaluated together.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/session.h"

namespace shoehorn::engine {

/// What a pass appends to a sequence.
struct BatchInput {
  size_t sequence;
  std::span<const tokenizer::Token> tokens;  ///< not empty
  size_t n_logits = 1;                       ///< of the last so many tokens; in eval_states(), states
  const Adapters* adapters = nullptr;        ///< added to the weights for these tokens
};

/// n_sequences KV caches over one model. A pass reads the weights once for the tokens of all sequences that take part;
/// which ones do, and with how many tokens each, is free from pass to pass.
///
/// A sequence's logits are those of a Session that was given the same tokens in the same portions, bit by bit, as long
/// as a pass has either fewer tokens than few_tokens() together, or that many of each sequence; otherwise they differ
/// by the rounding of the kernels for few tokens against those for many. They do not depend on the number of threads.
/// Not thread-safe.
class Batch {
 public:
  /// options.n_ctx is each sequence's. Fails with kTooLarge and the numbers when memory does not suffice for all.
  static Expected<Batch> create(std::shared_ptr<const Model> model, const SessionOptions& options, size_t n_sequences);

  /// One pass over at most max_tokens() tokens of different sequences. Returns the logits in the order of the inputs,
  /// [sum of n_logits, n_vocab], valid until the next call. Fails with kTooLarge when a context is full, kInvalid for
  /// ids out of range, a sequence named twice or too many tokens; then nothing was appended.
  Expected<std::span<const float>> eval(std::span<const BatchInput> inputs);
  /// The same with what the output matrix would read in place of logits: [sum of n_logits, n_embd].
  Expected<std::span<const float>> eval_states(std::span<const BatchInput> inputs);

  /// Forgets all positions of a sequence from n on.
  void truncate(size_t sequence, size_t n) { n_past_[sequence] = std::min(n_past_[sequence], n); }
  /// Makes the first n positions of `to` a copy of those of `from`, and forgets the others. n <= n_past(from).
  void copy_prefix(size_t from, size_t to, size_t n);

  size_t n_sequences() const { return caches_.size(); }
  size_t n_past(size_t sequence) const { return n_past_[sequence]; }
  size_t n_ctx() const { return caches_[0].n_ctx(); }
  size_t n_batch() const { return n_batch_; }                   ///< tokens of a prompt to read at once
  size_t max_tokens() const { return forward_->max_tokens(); }  ///< of a pass: at least n_batch() and n_sequences()
  size_t few_tokens() const { return model().kernels().batch_from; }
  size_t n_vocab() const { return model().hparams().n_vocab; }
  const Model& model() const { return *forward_->model(); }
  ThreadPool& pool() { return forward_->pool(); }
  uint64_t cache_bytes() const { return caches_[0].bytes() * caches_.size(); }

 private:
  using Run = void (Forward::*)(std::span<const tokenizer::Token>, std::span<const Segment>, float*);
  Expected<std::span<const float>> pass(std::span<const BatchInput> inputs, Run run, size_t n_columns);

  Batch(std::unique_ptr<Forward> forward, std::vector<KvCache> caches, size_t n_batch)
      : forward_(std::move(forward)), caches_(std::move(caches)), n_past_(caches_.size()), n_batch_(n_batch) {}

  std::unique_ptr<Forward> forward_;
  std::vector<KvCache> caches_;
  std::vector<size_t> n_past_;
  size_t n_batch_;
  AlignedBuffer<float> logits_;  // or states
};

}  // namespace shoehorn::engine
