// A pruning method: what it must know of a layer, and which units it keeps. A method is one file in this folder plus one row in
// methods.inc.
#pragma once

#include <functional>
#include <string>

#include "compress/prune/target.h"

namespace shoehorn::compress {

/// What a method asks to be gathered before it decides.
enum class Evidence {
  kWeights,    ///< nothing but the weights
  kGradients,  ///< gradients of the loss, over the whole model
  kMoments,    ///< means and squares of what the output projection reads, on the already pruned prefix
  kGram,       ///< its second moments between all columns, on the already pruned prefix
};

struct PruneSettings {
  std::string norm = "l2";         ///< magnitude: l1 or l2
  std::string taylor = "first";    ///< taylor: first, second, mix or vectorize
  int64_t rounds = 16;             ///< obs: units are taken out in this many rounds
  double damping = 0.01;           ///< obs: share of the mean diagonal that is added to X'X for the fit
  double choice_damping = 2;       ///< obs: share of the median diagonal that is added to X'X for the choice
  std::string fit = "stream";      ///< obs: the output is fitted to the dense model's residual stream, or to its own dense weights
};

/// Column statistics of the input X [n_rows, n_columns] of an output projection, in double precision where they are sums.
struct InputStatistics {
  int64_t n_rows = 0;
  at::Tensor sum, sum_squares;   ///< [n_columns]
  at::Tensor gram;               ///< X'X [n_columns, n_columns] in wide precision; undefined unless asked for
  at::Tensor cross;              ///< X'Y [n_columns, n_embd]: Y is what would bring the residual stream to the dense model's; may be undefined
};

/// Everything known about one target of one layer.
struct LayerEvidence {
  const Target* target;
  const models::Architecture* architecture;
  models::LayerShape shape;
  int64_t head_dim;
  int expert;                         ///< whose units they are; its weights are here as a block's only ones. -1: of all tokens
  TensorSet weights;                  ///< the layer's, wide precision, as they are now
  TensorSet gradient;                 ///< kGradients: of the mean loss; roles that the target cuts
  TensorSet fisher;                   ///< kGradients: mean over samples of the squared gradients, when asked for
  InputStatistics inputs;             ///< kMoments, kGram
};

struct Decision {
  std::vector<int64_t> units;    ///< kept, ascending
  at::Tensor scores;             ///< [n_units] larger is more important; undefined when there is no one ranking
  TensorSet replaced;            ///< weights in their new shape that are not just cut
};

struct Method {
  std::string_view name, summary;
  Evidence (*evidence)(const PruneSettings&);
  bool (*per_sample_gradients)(const PruneSettings&);    ///< wants `fisher`; nullptr: no
  bool adds_bias;                                        ///< the output projection gets a bias
  /// Importance of each unit, [n_units]; nullptr when units cannot be ranked one by one.
  at::Tensor (*scores)(const LayerEvidence&, const PruneSettings&);
  /// Keeps n units; nullptr: those with the highest scores.
  Expected<Decision> (*decide)(const LayerEvidence&, const PruneSettings&, int64_t n);
  int64_t default_samples, default_tokens;               ///< 0: needs no text
};

std::span<const Method* const> methods();
const Method* find_method(std::string_view name);

/// The decision of a method to keep n units.
Expected<Decision> decide(const Method& method, const LayerEvidence& evidence, const PruneSettings& settings, int64_t n);

/// The n units with the highest scores, ascending; of equal ones the first. Fails when a score is not finite.
Expected<std::vector<int64_t>> highest(const at::Tensor& scores, int64_t n);

/// Sums salience(role), in the shape of that tensor, over the rows and columns of every unit and over all tensors that the target cuts.
/// With `magnitude_of_sums`, a row's or column's sum counts by its magnitude.
at::Tensor sum_salience(const LayerEvidence& evidence, const std::function<at::Tensor(models::Role)>& salience,
                        bool magnitude_of_sums = false);

}  // namespace shoehorn::compress
