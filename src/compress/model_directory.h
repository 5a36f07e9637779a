// Writing a changed model as a Hugging Face directory.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "compress/block_loader.h"

namespace shoehorn::compress {

/// What became of one layer of the source model.
struct ChangedLayer {
  bool dropped = false;             ///< the whole layer is gone
  models::LayerShape shape;         ///< what it has now
  // Rows and columns that stay, in order, by symbolic dimension; undefined: all.
  at::Tensor kept_q, kept_kv;
  std::map<int, at::Tensor> kept_ff;  ///< by expert: each keeps its own
  TensorSet replaced;               ///< in place of the stored tensors, in the new shape

  /// Of an expert's tensors, or with -1 of others.
  const at::Tensor& kept(models::Dim dim, int expert) const;
};

/// A stored tensor cut to the rows and columns that its layer keeps.
at::Tensor cut(const at::Tensor& tensor, const models::TensorRule& rule, int expert, const ChangedLayer& layer);

struct ChangedModel {
  std::vector<ChangedLayer> layers;   ///< [n_layer of the source]
  bool attention_bias = false;        ///< the output has biases that the source lacks: zeros where nothing replaces them
  bool mlp_bias = false;
  bool ffn_hadamard = false;          ///< what down_proj reads is transformed first (models::Hparams)
  bool untied = false;                ///< the output has an output matrix of its own: of the embedding, when the source has none
  /// Called for every tensor that nothing replaces, when set: what is written in its place, in the same shape. Layer -1: of none, a matrix in
  /// pieces of its rows.
  std::function<at::Tensor(int source_layer, models::WeightId id, const at::Tensor& stored)> replace;
  std::string result_dtype;           ///< of matrices: "bf16", "f16", "f32", or "" as they were stored

  /// Dimensions of the output.
  models::Hparams hparams(const models::Hparams& source) const;
};

/// A model's layers as they are, to be changed.
std::vector<ChangedLayer> unchanged_layers(const models::Hparams& hparams);

/// config.json for the new dimensions. Layers of one shape are said by numbers, others by arrays with an explicit head_dim.
Json changed_config(const Json& config, const models::Architecture& architecture, const models::Hparams& hparams);

/// Writes config.json, the weights and the source's tokenizer files to `directory`.
/// Memory: a tensor at a time, as the largest of a layer or the largest of all as it is stored.
Status write_model_directory(const BlockLoader& source, const ChangedModel& model, const std::string& directory, Progress& progress);

}  // namespace shoehorn::compress
