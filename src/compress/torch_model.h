// The model's mathematics on libtorch, differentiable, from the same descriptions as the engine's (models/). Hugging
// Face's layout: NEOX rope, unpermuted q and k.
#pragma once

#include <functional>
#include <map>

#include "compress/hadamard_rows.h"
#include "models/per_weight.h"

namespace shoehorn::compress {

/// The weights of one block, or the global ones; undefined where the model has none.
struct TensorSet : models::PerWeight<at::Tensor> {
  models::AttentionKind attention;  ///< of a block
};

/// The bias that belongs to a projection, or to a norm's gain.
models::Role bias_of(models::Role weight);

/// One projection of a block, x [..., n_in] -> [..., n_out]; an expert's x [n_tokens, n_in] is of the tokens that go to it. What watches
/// activations or adds to them (LoRA) stands in for it.
using Projection = std::function<at::Tensor(models::WeightId weight, const at::Tensor& x)>;

/// W x + b.
at::Tensor project(const TensorSet& weights, models::WeightId weight, const at::Tensor& x);

class TorchModel {
 public:
  /// rope_divisors: the rope_freqs tensor [n_rot / 2] where a file says it, else empty: as hparams have it.
  TorchModel(const models::Hparams& hparams, Compute compute, std::vector<float> rope_divisors = {});

  const Compute& compute() const { return compute_; }

  /// One block on x [n_sequences, n_tokens, n_embd] (wide precision, as the result); parts that the weights lack do
  /// nothing. Tokens are at positions 0 ... and attend to themselves and those before.
  at::Tensor block(const TensorSet& weights, const at::Tensor& x, const Projection& projection) const;
  at::Tensor block(const TensorSet& weights, const at::Tensor& x) const;

  /// Logits [..., n_vocab] in wide precision of x [..., n_embd] after the last block.
  at::Tensor logits(const TensorSet& global, const at::Tensor& x) const;

  /// x [..., n] by way of one of the weights' norms, in the compute dtype.
  at::Tensor norm(const at::Tensor& x, const TensorSet& weights, models::Role role) const;

 private:
  /// x [..., n] divided by its root mean square, times gain [n], in the compute dtype.
  at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain) const;
  /// What a part reads, in the compute dtype: x by way of a norm where there is one before it.
  at::Tensor before(const at::Tensor& x, const TensorSet& weights, models::Role role) const;
  /// What a part adds, in wide precision: by way of a norm where there is one behind it.
  at::Tensor behind(const at::Tensor& branch, const at::Tensor& gain) const;
  /// x capped softly: c tanh(x / c); 0: x.
  static at::Tensor softcapped(const at::Tensor& x, float cap);
  at::Tensor attention(const TensorSet& weights, const at::Tensor& x, const Projection& projection) const;
  at::Tensor mlp(const TensorSet& weights, const at::Tensor& x, const Projection& projection) const;
  /// What one MLP, an expert's or the only one, makes of the normed x.
  at::Tensor one_mlp(const TensorSet& weights, const at::Tensor& normed, int expert, const Projection& projection) const;
  /// What all experts make of it together.
  at::Tensor experts(const TensorSet& weights, const at::Tensor& normed, const Projection& projection) const;
  /// Heads [n, n_heads, n_tokens, head_dim] rotated.
  at::Tensor rotate(const at::Tensor& heads, bool windowed) const;
  const std::pair<at::Tensor, at::Tensor>& rotations(int64_t n_tokens, bool windowed) const;
  const HadamardRows& transform(int64_t n) const;

  models::Hparams hparams_;
  Compute compute_;
  std::vector<float> rope_divisors_;
  // cos and sin [n_tokens, n_rot / 2], for the number of tokens last asked for: of layers without and with a window.
  mutable std::pair<at::Tensor, at::Tensor> rotations_[2];
  mutable std::map<int64_t, HadamardRows> transforms_;  // by n_ff
};

}  // namespace shoehorn::compress
