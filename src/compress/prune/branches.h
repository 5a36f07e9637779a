// What changes do to a model's predictions: KL divergence to the unchanged model, of many changed models in one pass over the
// weights.
#pragma once

#include <map>

#include "compress/block_stream.h"
#include "compress/model_directory.h"

namespace shoehorn::compress {

/// Some layers changed, by layer.
using Changes = std::map<int, ChangedLayer>;

struct Divergence {
  double kl = 0, kl_err = 0;            ///< mean KL(unchanged || changed), nats a token, and its standard error
  double nll = 0, nll_err = 0;          ///< of the changed model
  int64_t tokens = 0;
};

/// Changed models that are measured side by side.
class Branches {
 public:
  explicit Branches(BlockStream& stream) : stream_(stream) {}

  /// Starts a branch at `layer`, whose unchanged weights and input are given, with the changed layer; later layers are as they are.
  Status start(const TensorSet& weights, Boundary& input, const ChangedLayer& change);
  size_t size() const { return branches_.size(); }
  /// All branches that were started before get past the unchanged layer.
  Status pass(const TensorSet& weights);
  /// The divergence of each branch from the activations `last` of the unchanged model, in the order of their start. Drops all.
  Expected<std::vector<Divergence>> finish(Boundary& last, const std::vector<at::Tensor>& batches);

 private:
  BlockStream& stream_;
  std::vector<Boundary> branches_;
};

/// The divergence of each of several changed models.
Expected<std::vector<Divergence>> measure(BlockStream& stream, const std::vector<Changes>& models, const std::vector<at::Tensor>& batches,
                                          Divergence* unchanged = nullptr);

}  // namespace shoehorn::compress
