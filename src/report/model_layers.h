// What a model is made of, layer by layer: what `inspect` and the report draw.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "convert/model_source.h"

namespace shoehorn::report {

/// A matrix or, summed up under one name, all vectors of a layer.
struct Part {
  std::string name;  ///< "attn_q", "ffn_down", "token_embd"
  std::string type;  ///< as it is stored: "Q4_K", "BF16"
  uint64_t weights = 0, bytes = 0;

  /// Bits that a weight takes; 0 of nothing.
  double bits_per_weight() const;
};

struct Layer {
  models::LayerShape shape;
  std::vector<Part> matrices;       ///< in file order
  uint64_t weights = 0, bytes = 0;  ///< vectors too

  /// nullptr when the layer has no such matrix.
  const Part* find(std::string_view name) const;
};

struct ModelLayers {
  std::string architecture;
  uint32_t n_embd = 0, head_dim = 0;
  bool jagged = false;
  std::vector<Layer> layers;
  std::vector<Part> outside;  ///< matrices that belong to no layer: token_embd, output
  uint64_t parameters = 0;    ///< stored weights, rope_freqs aside
  uint64_t bytes = 0;         ///< of stored tensors

  double bits_per_weight() const;
  /// Names of the matrices that any layer has, in the order in which they come.
  std::vector<std::string> matrix_names() const;
};

/// Takes the source's stored tensors by their GGUF names ("blk.3.attn_q.weight"); tensors that conversion computes are
/// left out.
ModelLayers model_layers(const convert::ModelSource& source);

/// Equal layers one after another: [first, last].
struct LayerRun {
  size_t first = 0, last = 0;
};

/// Runs of layers of the same shape, types and bytes.
std::vector<LayerRun> equal_runs(const std::vector<Layer>& layers);

/// "attn_q" as "q", "ffn_down" as "down".
std::string short_name(std::string_view matrix);

/// The model as lines of text: a row per run of equal layers with heads, MLP width as a bar, types (matrices that agree
/// in all rows share a column), bytes as a bar; what belongs to no layer in front and at the end. Ends in a newline.
std::string draw_as_text(const ModelLayers& model);

/// [{"n_head", "n_head_kv", "n_ff", "parameters", "bytes", "types": {"attn_q": "Q4_K", ...}}, ...], a value per layer.
Json layers_json(const ModelLayers& model);

}  // namespace shoehorn::report
