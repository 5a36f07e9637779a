#include "compress/prune/branches.h"

#include <cmath>

#include "compress/prune/evidence.h"

namespace shoehorn::compress {
namespace {

struct Sums {
  double kl = 0, kl_squares = 0, nll = 0, nll_squares = 0;
  int64_t n = 0;

  void add(const Loss& divergence, const Loss& loss) {
    kl += divergence.sum;
    kl_squares += divergence.sum_squares;
    nll += loss.sum;
    nll_squares += loss.sum_squares;
    n += loss.count;
  }

  /// Over all processes.
  Status gather(const Peers& peers) {
    for (double* value : {&kl, &kl_squares, &nll, &nll_squares}) SHOEHORN_RETURN_IF_ERROR(peers.sum(*value));
    return peers.sum(n);
  }
};

double standard_error(double sum, double squares, int64_t n) {
  if (n < 2) return 0;
  const double mean = sum / static_cast<double>(n), variance = squares / static_cast<double>(n) - mean * mean;
  return std::sqrt(std::max(0.0, variance) / static_cast<double>(n - 1));
}

Divergence mean(const Sums& sums) {
  const auto n = static_cast<double>(sums.n);
  return {sums.kl / n, standard_error(sums.kl, sums.kl_squares, sums.n), sums.nll / n,
          standard_error(sums.nll, sums.nll_squares, sums.n), sums.n};
}

Expected<Boundary> step(BlockStream& stream, const TensorSet& weights, Boundary& in, bool keep, const ChangedLayer* change) {
  at::NoGradGuard no_gradient;
  Boundary out;
  for (const auto slot : in) {
    if (stream.progress().cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    SHOEHORN_TRY(const at::Tensor x, stream.get(slot));
    const bool skip = change != nullptr && change->dropped;
    SHOEHORN_TRY(const auto made, stream.put(skip ? x : stream.model().block(weights, x)));
    out.push_back(made);
  }
  if (!keep) stream.drop(in);
  return out;
}

/// Compares the branches' activations after the last block with those of the unchanged model (a branch without any is that model),
/// and drops them all.
Expected<std::vector<Divergence>> compare(BlockStream& stream, Boundary& last, std::vector<Boundary>& branches,
                                          const std::vector<at::Tensor>& batches, Divergence* unchanged) {
  const TensorSet head = stream.loader().head();
  Sums base;
  std::vector<Sums> sums(branches.size());
  for (size_t m = 0; m < last.size(); ++m) {
    SHOEHORN_TRY(const at::Tensor x, stream.get(last[m]));
    const at::Tensor targets = next_tokens(batches[m]);
    const HeadInput before{&stream.model(), &head, x};
    if (unchanged != nullptr) base.add({}, cross_entropy(before, targets, false));
    for (size_t b = 0; b < branches.size(); ++b) {
      SHOEHORN_TRY(const at::Tensor changed, stream.get(branches[b].empty() ? last[m] : branches[b][m]));
      const HeadInput after{&stream.model(), &head, changed};
      sums[b].add(kl_divergence(after, before, targets, false), cross_entropy(after, targets, false));
    }
  }
  for (Boundary& branch : branches) stream.drop(branch);
  branches.clear();
  stream.drop(last);
  SHOEHORN_RETURN_IF_ERROR(base.gather(stream.peers()));
  if (unchanged != nullptr) *unchanged = mean(base);
  std::vector<Divergence> out;
  for (Sums& s : sums) {
    SHOEHORN_RETURN_IF_ERROR(s.gather(stream.peers()));
    out.push_back(mean(s));
  }
  return out;
}

}  // namespace

Status Branches::start(const TensorSet& weights, Boundary& input, const ChangedLayer& change) {
  SHOEHORN_TRY(Boundary out, step(stream_, apply(change, stream_.loader(), weights), input, true, &change));
  branches_.push_back(std::move(out));
  return {};
}

Status Branches::pass(const TensorSet& weights) {
  for (Boundary& branch : branches_) {
    SHOEHORN_TRY(branch, step(stream_, weights, branch, false, nullptr));
  }
  return {};
}

Expected<std::vector<Divergence>> Branches::finish(Boundary& last, const std::vector<at::Tensor>& batches) {
  return compare(stream_, last, branches_, batches, nullptr);
}

Expected<std::vector<Divergence>> measure(BlockStream& stream, const std::vector<Changes>& models, const std::vector<at::Tensor>& batches,
                                          Divergence* unchanged) {
  const size_t n_layer = stream.loader().hparams().n_layer;
  SHOEHORN_TRY(Boundary dense, stream.embed(batches));
  std::vector<Boundary> live(models.size());
  for (size_t layer = 0; layer < n_layer; ++layer) {
    const TensorSet weights = stream.loader().block(layer);
    stream.loader().expect(layer + 1);
    for (size_t b = 0; b < models.size(); ++b) {
      const auto change = models[b].find(static_cast<int>(layer));
      const bool started = !live[b].empty();
      if (!started && change == models[b].end()) continue;
      Boundary& input = started ? live[b] : dense;
      const ChangedLayer* changed = change == models[b].end() ? nullptr : &change->second;
      SHOEHORN_TRY(Boundary out, step(stream, changed == nullptr || changed->dropped ? weights : apply(*changed, stream.loader(), weights),
                                      input, !started, changed));
      live[b] = std::move(out);
    }
    SHOEHORN_TRY(dense, step(stream, weights, dense, false, nullptr));
    stream.progress().advance(1);
  }
  return compare(stream, dense, live, batches, unchanged);
}

}  // namespace shoehorn::compress
