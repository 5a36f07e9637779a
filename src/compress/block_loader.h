// A checkpoint's weights as tensors on the compute device, one block at a time from the mapped files.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "compress/torch_model.h"
#include "convert/opened_checkpoint.h"
#include "quant/format.h"

namespace shoehorn::compress {

/// Matrices and biases come in the compute dtype, norm gains in wide precision. Blocks are copied out of the mapping and its
/// pages let go, so that memory holds a block and not the model; with `resident`, blocks stay once loaded.
class BlockLoader {
 public:
  BlockLoader(convert::OpenedCheckpoint checkpoint, Compute compute, bool resident);

  /// All weights of block `layer`.
  TensorSet block(size_t layer);
  /// Output norm and output matrix (the embedding when they are tied).
  TensorSet head();
  /// From now on the embedding or the output matrix is what a format makes of it.
  void round(models::Role role, const quant::Format& format) { rounded_[role] = &format; }
  /// Embeddings of ids [...] as [..., n_embd] in wide precision. Ids must be in range.
  at::Tensor embed(const at::Tensor& ids) const;

  /// The block will be asked for soon: its pages are fetched while other work goes on.
  void expect(size_t layer) const;

  /// A stored tensor as it is, copied; undefined when the model has none.
  at::Tensor stored(int layer, models::WeightId id) const;
  const io::CheckpointTensor* find(int layer, models::WeightId id) const;
  /// The gain of a norm, in double precision; checkpoints may store it less an offset.
  at::Tensor gain(int layer, models::Role norm) const;

  /// Those that are stored.
  std::vector<models::WeightId> weights_of(size_t layer) const;

  /// What a tensor of this role is computed with: gains in wide precision, the rest in the compute dtype.
  at::TensorOptions options(models::Role role) const;

  const convert::OpenedCheckpoint& checkpoint() const { return checkpoint_; }
  const models::Hparams& hparams() const { return checkpoint_.config.hparams; }
  const models::Architecture& architecture() const { return *checkpoint_.config.architecture; }
  /// Bytes of one block on the device, the largest of all, and of the head.
  uint64_t largest_block_bytes() const;
  uint64_t head_bytes() const;
  /// All blocks and the head.
  uint64_t total_bytes() const;

 private:
  using StoredSet = models::PerWeight<const io::CheckpointTensor*>;
  TensorSet load(const StoredSet& stored) const;
  uint64_t bytes(const StoredSet& stored) const;

  convert::OpenedCheckpoint checkpoint_;
  Compute compute_;
  bool resident_;
  std::map<models::Role, const quant::Format*> rounded_;
  StoredSet global_;
  std::vector<StoredSet> layers_;
  std::vector<std::optional<TensorSet>> kept_;
  std::optional<TensorSet> kept_head_;
};

}  // namespace shoehorn::compress
