// Rotations in a model's weights, which then computes the same as before.
#pragma once

#include <optional>
#include <vector>

#include "compress/model_directory.h"
#include "compress/rotate/rotation.h"

namespace shoehorn::compress {

/// R1 rotates the residual stream, R2 what a KV head's values are, per head of each layer (SpinQuant, Liu et al. 2024,
/// arXiv:2405.16406). A rotated model has the gains of its norms in the weights that follow: RMSNorm without gains
/// commutes with R1. R4 rotates what down_proj reads: the signs are in up_proj's rows, the transform itself is left to
/// whoever runs the model (models::Hparams::ffn_hadamard).
struct Rotations {
  std::optional<Rotation> r1;
  std::vector<std::vector<Rotation>> r2;    ///< [n_layer][n_head_kv]; empty: none
  std::vector<std::optional<Rotation>> r4;  ///< [n_layer], Hadamard matrices; empty: none
};

struct RotationOptions {
  bool r1 = true, r2 = true, r4 = false;
  RotationKind kind = RotationKind::kHadamard;
  uint64_t seed = 0;
};

/// Random rotations for a model of these dimensions. R4 is a Hadamard matrix whatever the kind. Fails where a matrix is
/// to be of odd order, naming the dimension.
Expected<Rotations> random_rotations(const models::Hparams& hparams, const RotationOptions& options);

/// A stored tensor as the rotated model has it, in double precision unless R1 and R2 are in another; layer -1: a global one. The output matrix of a
/// model whose embeddings are tied is asked for as kOutput with the embedding as `stored`: the gains of the last norm
/// are in it, so that the two are no longer one.
class Fusion {
 public:
  /// Both must outlive it.
  Fusion(const BlockLoader& source, const Rotations& rotations) : source_(source), rotations_(rotations) {}
  at::Tensor operator()(int layer, models::WeightId id, const at::Tensor& stored) const;

 private:
  at::Tensor into_residual(const at::Tensor& weight) const;
  at::Tensor from_residual(const at::Tensor& weight, int layer, models::Role norm) const;
  at::Tensor heads_out(int layer, const at::Tensor& weight) const;
  at::Tensor heads_in(int layer, const at::Tensor& weight) const;

  const BlockLoader& source_;
  const Rotations& rotations_;
};

/// The rotated model, to be written with this dtype ("bf16", "f16", "f32"; "" as stored).
ChangedModel rotated_model(const BlockLoader& source, const Rotations& rotations, const std::string& result_dtype);

}  // namespace shoehorn::compress
