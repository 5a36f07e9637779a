// Forward and backward passes over a model that is never in memory as a whole: blocks are the outer loop, micro-batches the inner
// one, so a pass reads every weight once however many samples there are. Activations wait between blocks in an ActivationStore; a
// backward pass computes each block again.
#pragma once

#include <functional>
#include <vector>

#include "base/function_ref.h"
#include "base/progress.h"
#include "compress/activation_store.h"
#include "compress/block_loader.h"
#include "compress/losses.h"
#include "compress/peers.h"

namespace shoehorn::compress {

/// The activations of all micro-batches at one place between blocks, [n_samples, n_tokens, n_embd] each.
using Boundary = std::vector<ActivationStore::Slot>;

class BlockStream {
 public:
  /// References must outlive it. Every block done advances progress by one.
  BlockStream(BlockLoader& loader, const TorchModel& model, ActivationStore& store, Progress& progress, const Peers& peers)
      : loader_(loader), model_(model), store_(store), progress_(progress), peers_(peers) {}

  /// Embeddings of the micro-batches' ids [n_samples, n_tokens].
  Expected<Boundary> embed(const std::vector<at::Tensor>& batches);

  /// What a block does to the activations of micro-batch m: usually model().block(weights, x). Called without gradients.
  using BlockFunction = FunctionRef<at::Tensor(const TensorSet& weights, const at::Tensor& x, size_t m)>;

  /// The next boundary; `in` is dropped unless `keep`.
  Expected<Boundary> forward(size_t layer, const TensorSet& weights, Boundary& in, bool keep, BlockFunction function);
  /// The same with the stored weights and nothing added.
  Expected<Boundary> forward(size_t layer, Boundary& in, bool keep);

  /// The backward pass of one block. `gradients` holds d loss / d output per micro-batch and becomes d loss / d input (dropped
  /// when not `want_input`); `inputs` is dropped. visit(m, d loss / d parameters) is called per micro-batch.
  Status backward(const TensorSet& weights, Boundary& inputs, Boundary& gradients, const std::vector<at::Tensor>& parameters,
                  bool want_input, BlockFunction function, FunctionRef<void(size_t m, std::vector<at::Tensor>&& gradients)> visit);

  Expected<at::Tensor> get(ActivationStore::Slot slot) const;
  Expected<ActivationStore::Slot> put(const at::Tensor& tensor) { return store_.put(tensor); }
  void drop(Boundary& boundary);

  BlockLoader& loader() { return loader_; }
  ActivationStore& store() { return store_; }
  const TorchModel& model() const { return model_; }
  Progress& progress() { return progress_; }
  /// The processes that the micro-batches are shared out to; sums over micro-batches must be summed over them.
  const Peers& peers() const { return peers_; }

 private:
  BlockLoader& loader_;
  const TorchModel& model_;
  ActivationStore& store_;
  Progress& progress_;
  const Peers& peers_;
};

/// ids [n, n_tokens] in pieces of `size` samples, the last one shorter.
std::vector<at::Tensor> split_batches(const at::Tensor& ids, int64_t size);

}  // namespace shoehorn::compress
