// What can be taken out of a block as one unit, and which rows and columns go with it. A unit's rows and columns follow from the
// symbolic dimensions of the architecture's tensors (models/model.h).
#pragma once

#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "compress/model_directory.h"

namespace shoehorn::compress {

struct Target {
  std::string_view name;
  std::string_view summary;
  models::Role output;            ///< the projection whose input columns the units are: what goes, it no longer reads
  models::Dim output_dim;         ///< its columns
  uint32_t default_multiple;      ///< kept units are a multiple of this
  int64_t (*count)(const models::LayerShape&);
  /// Elements of `dim` that belong to each unit, [n_units, n_elements]; undefined when the dimension is not cut.
  at::Tensor (*elements)(const models::LayerShape&, int64_t head_dim, models::Dim dim);
  /// The shape when n units are kept.
  models::LayerShape (*shape)(const models::LayerShape&, uint32_t n);
};

/// mlp, attention, heads.
std::span<const Target> targets();
const Target* find_target(std::string_view name);

/// Sums of values [n_elements of dim] over each unit, [n_units].
at::Tensor sum_over_units(const Target& target, const models::LayerShape& shape, int64_t head_dim, models::Dim dim,
                          const at::Tensor& values);

/// What is kept, by expert (-1: what all tokens go through); each keeps as many.
using KeptUnits = std::map<int, std::vector<int64_t>>;

/// Whose units a target's are, one by one: every expert's, or -1.
std::vector<int> owners(const Target& target, const models::Hparams& hparams);

/// The name of what is saved of a target and one of those.
std::string owned_name(const Target& target, int expert);

/// Adds the cut to `layer`: its shape, and the rows and columns that stay. Units ascending.
void keep_units(const Target& target, const KeptUnits& units, int64_t head_dim, ChangedLayer& layer);

/// round(n (1 - ratio) / m) m, at least m, at most n.
int64_t kept_units(int64_t n, double ratio, int64_t multiple);

}  // namespace shoehorn::compress
