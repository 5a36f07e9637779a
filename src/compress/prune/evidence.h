// Gathering what pruning methods ask for.
#pragma once

#include <map>
#include <set>
#include <tuple>

#include "base/function_ref.h"
#include "compress/block_stream.h"
#include "compress/prune/method.h"
#include "compress/work_directory.h"

namespace shoehorn::compress {

/// The weights of a layer after its cut, for computing with.
TensorSet apply(const ChangedLayer& change, const BlockLoader& loader, const TensorSet& weights);

/// The roles of a layer whose tensors a target cuts, of all or of each expert.
std::vector<models::Role> cut_roles(const models::Architecture& architecture, const models::LayerShape& shape, int64_t head_dim,
                                    const Target& target, bool of_experts);

/// The residual stream after the target's output projection of block `weights` has added to it; `in` is dropped unless `keep`.
Expected<Boundary> forward_through(BlockStream& stream, int layer, const TensorSet& weights, const Target& target, Boundary& in, bool keep);

/// Statistics of what the target's output projection reads when block `weights` gets the boundary, by `experts` (or {-1}); the boundary stays. With
/// `wanted`, the residual stream as it is to be after that projection, also how the reading goes with what is lacking: not of experts.
Expected<std::vector<InputStatistics>> gather_inputs(BlockStream& stream, const TensorSet& weights, const Boundary& boundary, const Target& target,
                                                     const std::vector<int>& experts, bool want_gram, const Boundary* wanted);

/// Where an importance belongs: layer, target, expert or -1.
using ScorePlace = std::tuple<int, std::string_view, int>;
/// Importance per unit from gradients.
using GradientScores = std::map<ScorePlace, at::Tensor>;

struct GradientTask {
  const Method* method;
  const PruneSettings* settings;
  std::vector<const Target*> targets;
  int first_layer, last_layer;       ///< inclusive
  const std::set<int>* dropped;      ///< layers that are not there any more
  std::vector<at::Tensor> batches;   ///< ids [n, n_tokens], this process's
  int64_t n_samples;                 ///< of all processes
};

/// One forward and one backward pass over the model. What is done is saved in `work` and not done again.
Expected<GradientScores> gradient_scores(BlockStream& stream, const GradientTask& task, const WorkDirectory& work);

}  // namespace shoehorn::compress
