// The forward pass over a model's layers, for the tokens of one sequence or of several at once.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/thread_pool.h"
#include "hadamard/transform.h"
#include "engine/adapter.h"
#include "engine/kv_cache.h"
#include "engine/model.h"
#include "engine/products.h"
#include "engine/rope.h"
#include "engine/step_observer.h"

namespace shoehorn::engine {

/// Consecutive tokens of one sequence in a pass.
struct Segment {
  KvCache* cache;  ///< the sequence's, of the types that Forward was made for
  size_t n_past;   ///< position of the first token; positions before it must have gone through the layer
  size_t n;        ///< tokens
  size_t n_out;    ///< the last n_out tokens come out of a layer; attention stores keys and values of all n
  const Adapters* adapters = nullptr;  ///< added to the weights for these tokens; may be absent or empty
};

/// Threads and activations of a pass; keys and values are the callers'. Products go over all tokens of a pass together,
/// attention over each sequence for itself, so a token's result depends on other sequences only in this: few tokens and
/// many go through different kernels (KernelTable::batch_from). It does not depend on the number of threads. Not
/// thread-safe.
class Forward {
 public:
  /// For passes of at most max_tokens in sequences of at most n_ctx.
  Forward(std::shared_ptr<const Model> model, const CacheTypes& cache, size_t n_ctx, size_t max_tokens, int n_threads, Affinity affinity);

  /// Embedding, all layers and the output matrix: tokens (ids inside the vocabulary) of the segments one after another;
  /// logits [sum of n_out, n_vocab] in their order, which may be null when that is 0.
  void run(std::span<const tokenizer::Token> tokens, std::span<const Segment> segments, float* logits);
  /// Without the output matrix: out [sum of n_out, n_embd] is what it would read.
  void run_states(std::span<const tokenizer::Token> tokens, std::span<const Segment> segments, float* out);

  // The same in its parts.

  /// x [tokens.size(), n_embd]
  void embed(std::span<const tokenizer::Token> tokens, float* x) const;
  /// x [sum of n, n_embd], changed in place; those that come out end up as the last ones, in their order.
  void run_layer(size_t layer, float* x, std::span<const Segment> segments);
  /// out [n, n_embd]: what the output matrix reads.
  void norm_output(const float* x, size_t n, float* out);
  /// logits [n, n_vocab] of x [n, n_embd] behind the last layer; n is at most max_tokens().
  void multiply_output(const float* x, size_t n, float* logits);

  /// kInvalid for ids outside of the vocabulary.
  Status check(std::span<const tokenizer::Token> tokens) const;

  /// From now on what the products of the layers read is rounded first, to so many bits with a scale per token and
  /// product (0: not): what a device computes that has no floating point. The output matrix reads what it always reads.
  void round_activations(int bits) { activation_bits_ = bits; }

  /// See Products::observe.
  void observe(ProductObserver* observer) { products_.observe(observer); }
  /// Tells `observer` of every step of the passes from now on; nullptr: nobody. It must outlive this or be taken away.
  void observe_steps(StepObserver* observer) { steps_ = observer; }

  ThreadPool& pool() { return pool_; }
  const ThreadPool& pool() const { return pool_; }
  size_t max_tokens() const { return max_tokens_; }
  const std::shared_ptr<const Model>& model() const { return model_; }

 private:
  /// A token of a pass: where it belongs.
  struct Row {
    const Segment* segment;
    size_t position;
    bool comes_out;
  };
  /// What attention does for a segment.
  struct Attention {
    const Segment* segment;
    size_t first_row;  // of q_ and attended_
    size_t n_blocks;   // of query rows
    size_t n_ranges;   // of positions; 1: all at once
    size_t first_task;
    size_t first_partial, first_partial_row;
  };

  /// Embedding and all layers; the rows that come out, in x_.
  const float* run_layers(std::span<const tokenizer::Token> tokens, std::span<const Segment> segments);
  /// Consecutive rows of a pass that adapters are added for.
  struct AdaptedRows {
    size_t first, n;
    const Adapters* adapters;
  };

  void lay_out(std::span<const Segment> segments);
  /// Products that read x [n_rows, n_cols], of all rows of the pass or of those that come out, with their adapters.
  void multiply(const float* x, size_t n_rows, size_t n_cols, std::initializer_list<Product> products, int bits) {
    multiply(x, n_rows, n_cols, products, bits, n_rows == rows_.size() ? adapted_ : adapted_out_);
  }
  void multiply(const float* x, size_t n_rows, size_t n_cols, std::initializer_list<Product> products) {
    multiply(x, n_rows, n_cols, products, activation_bits_);
  }
  void multiply(const float* x, size_t n_rows, size_t n_cols, std::initializer_list<Product> products, int bits,
                const std::vector<AdaptedRows>& adapted);
  void add_adapters(const float* x, size_t n_cols, const Weight& weight, float* y, const std::vector<AdaptedRows>& rows);
  void attention_block(size_t layer, float* x);
  void mlp_block(size_t layer, float* x);
  /// gated_ [n, width] = what an MLP's down product reads of x [n, n_embd]: an expert's, the shared one's or the only one's (-1).
  void gate_and_up(size_t layer, int expert, const float* x, size_t n, const std::vector<AdaptedRows>& adapted);
  /// gated_ by way of the transform that the model has there.
  void transform_gated(size_t layer, int expert, size_t n);
  /// out [n_out_, n_embd] += what the experts make of normed_.
  void experts_block(size_t layer, float* out);
  void choose_experts(size_t n);
  /// out[token] += share times expert_out_'s rows, of the routes [first, first + n).
  void add_routed(size_t first, size_t n, float* out);
  void keep_outputs(float* x) const;
  void prepare_rotations();
  void rotate_and_store(size_t layer);
  void undo_value_rotation(size_t layer);
  float* scratch(int thread) { return scratch_.data() + static_cast<size_t>(thread) * scratch_per_thread_; }
  void attend(size_t layer);
  void attend_task(size_t layer, const Attention& plan, size_t task, int thread);
  void merge_ranges(size_t layer, const Attention& plan);
  /// x [n, as wide as the gain], or without a gain [n, n_embd], to out.
  void norm_rows(const Weight& gain, const Weight& bias, const float* x, size_t n, float* out);
  void clamp_heads(size_t layer);
  /// x [n_out_, n_embd] += weight input + bias, by way of the norm `post` where there is one.
  void add_branch(const float* input, size_t n_cols, const Weight& weight, const Weight& bias, const Weight& post, float* x);
  /// Which of ropes_ a layer's is.
  size_t rope_of(size_t layer) const { return model_->hparams().layers[layer].attention.windowed ? ropes_.size() - 1 : 0; }
  void done(Step step, size_t layer) {
    if (steps_ != nullptr)
      steps_->on_step(step, {.layer = layer, .n_past = rows_.front().position, .n = rows_.size(), .n_out = n_out_});
  }

  std::shared_ptr<const Model> model_;
  ThreadPool pool_;
  // Of layers that see all positions, and where they are others, of those with a window.
  std::vector<Rope> ropes_;
  std::vector<std::vector<float>> slopes_;  // with ALiBi, of each layer's heads
  const kernels::KernelTable* table_;
  const kernels::Kernels* key_kernels_;
  const kernels::Kernels* value_kernels_;
  Products products_;
  Products adapter_products_;  // whose inputs come between those of products_
  StepObserver* steps_ = nullptr;
  size_t max_tokens_;
  int activation_bits_ = 0;
  CacheTypes cache_;
  std::unique_ptr<const hadamard::Transform<float>> head_transform_;  // where the cache is rotated
  size_t scratch_per_thread_ = 0;

  // The pass at hand.
  std::vector<Row> rows_;             // [tokens]
  size_t n_out_ = 0;                  // rows that come out
  std::vector<size_t> rotated_;       // positions that rotations_ is of
  std::vector<Attention> attention_;  // [segments]
  std::vector<AdaptedRows> adapted_, adapted_out_;  // of all rows, and counted among those that come out
  /// A token, counted among those that come out, that goes to an expert.
  struct Route {
    size_t expert, token;
    float share;
  };
  std::vector<Route> routes_;         // those of one expert behind one another, by token
  std::vector<size_t> order_;         // [n_expert]
  std::vector<AdaptedRows> adapted_routes_;

  AlignedBuffer<float> x_;          // [max_tokens, n_embd]  residual stream
  AlignedBuffer<float> normed_;     // [max_tokens, n_embd]
  AlignedBuffer<float> mlp_input_;  // [max_tokens, n_embd]  where it is not the residual stream behind attention
  AlignedBuffer<float> q_;          // [max_tokens, max n_head * head_dim]
  AlignedBuffer<float> k_, v_;      // [max_tokens, max n_head_kv * head_dim]
  AlignedBuffer<float> attended_;   // [max_tokens, max n_head * head_dim]
  AlignedBuffer<float> gated_;      // [max_tokens, max n_ff]
  AlignedBuffer<float> up_;         // the same, where adapters part it from the gate
  AlignedBuffer<float> low_rank_;   // [max_tokens, rank]
  AlignedBuffer<float> rotations_;  // [ropes, max_tokens, n_rot]
  AlignedBuffer<float> branch_;     // [max_tokens, n_embd]  what a part adds, where a norm follows it
  AlignedBuffer<float> scores_;     // [max_tokens, n_expert]
  AlignedBuffer<float> expert_in_, expert_out_;  // [max_tokens, n_embd]
  AlignedBuffer<float> scratch_;    // [n_threads, scratch_per_thread_]
  // Partial results of attention over ranges of positions: [range, token, head] outputs, maxima and sums.
  AlignedBuffer<float> partial_, partial_max_, partial_sum_;
};

}  // namespace shoehorn::engine
