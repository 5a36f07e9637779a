#include "compress/prune/evidence.h"

#include <cmath>

#include "compress/experts.h"
#include "compress/linear_algebra.h"

namespace shoehorn::compress {
namespace {

using models::Role;

std::string layer_name(const char* what, int layer) { return fmt::format("{}-{:05}", what, layer); }

/// Gradients of one layer's tensors, summed over micro-batches in wide precision.
struct GradientSums {
  std::vector<models::WeightId> ids;
  TensorSet gradient, fisher;

  void add(std::vector<at::Tensor>&& parts, double n_samples, bool want_fisher) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const at::Tensor part = parts[i].to(parts[i].scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
      parts[i] = at::Tensor();
      at::Tensor& sum = gradient[ids[i]];
      if (want_fisher) {
        // A micro-batch is one sample then, and its part of the mean loss 1 / n_samples.
        fisher[ids[i]].addcmul_(part, part, n_samples);
      }
      sum.add_(part);
    }
  }

  /// Over all processes.
  Status gather(const Peers& peers) const {
    for (const models::WeightId id : ids) {
      SHOEHORN_RETURN_IF_ERROR(peers.sum({gradient[id]}));
      if (fisher[id].defined()) SHOEHORN_RETURN_IF_ERROR(peers.sum({fisher[id]}));
    }
    return {};
  }
};

/// d mean loss / d activations after the last block, per micro-batch; drops `last`. The mean loss is the mean over samples of
/// their means over tokens, which all have the same number.
Expected<Boundary> loss_gradients(BlockStream& stream, Boundary& last, const std::vector<at::Tensor>& batches, int64_t n_samples) {
  const TensorSet head = stream.loader().head();
  Boundary out;
  for (size_t m = 0; m < last.size(); ++m) {
    SHOEHORN_TRY(const at::Tensor x, stream.get(last[m]));
    const Loss loss = cross_entropy({&stream.model(), &head, x}, next_tokens(batches[m]), true);
    if (!std::isfinite(loss.sum)) return fail(ErrorCode::kInvalid, "the loss of micro-batch {} is not finite", m);
    const double scale = 1.0 / static_cast<double>((batches[m].size(1) - 1) * n_samples);
    SHOEHORN_TRY(const auto slot, stream.put(loss.gradient * scale));
    out.push_back(slot);
  }
  stream.drop(last);
  return out;
}

Status save_gradients(BlockStream& stream, const WorkDirectory& work, int layer, const Boundary& gradients) {
  Saved saved;
  for (size_t m = 0; m < gradients.size(); ++m) {
    SHOEHORN_TRY(saved.tensors[fmt::format("{:06}", m)], stream.get(gradients[m]));
  }
  return work.save(layer_name("gradient", layer), saved);
}

/// A block's tensors without what follows its projection `output`.
TensorSet without_rest(const TensorSet& weights, Role output) {
  TensorSet part = weights;
  if (output != Role::kFfnDown) part[Role::kFfnDown] = part[Role::kFfnRouter] = at::Tensor();
  return part;
}

/// The residual stream of a block before its projections `output` add to it, and what these read, by expert.
at::Tensor stream_before(const TorchModel& model, const TensorSet& weights, const at::Tensor& x, Role output, std::map<int, at::Tensor>& read) {
  return model.block(weights, x, [&](models::WeightId id, const at::Tensor& input) {
    if (id.role != output) return project(weights, id, input);
    read[id.expert] = input;
    std::vector<int64_t> sizes = input.sizes().vec();
    sizes.back() = weights[id].size(0);
    return at::zeros(sizes, input.options());
  });
}

}  // namespace

TensorSet apply(const ChangedLayer& change, const BlockLoader& loader, const TensorSet& weights) {
  TensorSet out;
  out.attention = weights.attention;
  for (const models::TensorRule& rule : loader.architecture().tensors) {
    for (const models::WeightId id : models::weight_ids(rule, loader.hparams())) {
      if (change.replaced[id].defined()) {
        out[id] = change.replaced[id].to(loader.options(id.role));
      } else if (weights[id].defined()) {
        out[id] = cut(weights[id], rule, id.expert, change);
      }
    }
  }
  return out;
}

std::vector<Role> cut_roles(const models::Architecture& architecture, const models::LayerShape& shape, int64_t head_dim,
                            const Target& target, bool of_experts) {
  std::vector<Role> roles;
  for (const models::TensorRule& rule : architecture.tensors) {
    if (rule.part == models::Part::kGlobal || rule.per_expert != of_experts) continue;
    if (target.elements(shape, head_dim, rule.rows).defined() || target.elements(shape, head_dim, rule.cols).defined()) {
      roles.push_back(rule.role);
    }
  }
  return roles;
}

Expected<Boundary> forward_through(BlockStream& stream, int layer, const TensorSet& weights, const Target& target, Boundary& in, bool keep) {
  const TensorSet part = without_rest(weights, target.output);
  return stream.forward(static_cast<size_t>(layer), part, in, keep,
                        [&](const TensorSet& w, const at::Tensor& x, size_t) { return stream.model().block(w, x); });
}

Expected<std::vector<InputStatistics>> gather_inputs(BlockStream& stream, const TensorSet& weights, const Boundary& boundary, const Target& target,
                                                     const std::vector<int>& experts, bool want_gram, const Boundary* wanted) {
  at::NoGradGuard no_gradient;
  const at::Tensor& output = weights[{target.output, experts.front()}];
  const int64_t n_columns = output.size(1), n_embd = output.size(0);
  const auto wide = stream.model().compute().wide_options();
  std::vector<InputStatistics> out(experts.size());
  for (InputStatistics& one : out) {
    one.sum = at::zeros({n_columns}, wide.dtype(at::kDouble));
    one.sum_squares = at::zeros_like(one.sum);
    if (want_gram) one.gram = at::zeros({n_columns, n_columns}, wide);
    if (wanted != nullptr) one.cross = at::zeros({n_columns, n_embd}, wide);
  }

  const TensorSet part = with_experts(without_rest(weights, target.output), experts);
  for (size_t m = 0; m < boundary.size(); ++m) {
    if (stream.progress().cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    SHOEHORN_TRY(const at::Tensor x, stream.get(boundary[m]));
    std::map<int, at::Tensor> read;  // by the target's output projections
    // The residual stream before these add to it.
    const at::Tensor before = stream_before(stream.model(), part, x, target.output, read);
    for (size_t i = 0; i < experts.size(); ++i) {
      const auto found = read.find(experts[i]);
      if (found == read.end()) continue;
      InputStatistics& one = out[i];
      const at::Tensor rows = found->second.reshape({-1, n_columns}), exact = rows.to(at::kDouble);
      one.n_rows += rows.size(0);
      one.sum += exact.sum(0);
      one.sum_squares += exact.square().sum(0);
      const at::Tensor rows_wide = rows.to(wide.dtype());
      if (want_gram) add_gram(one.gram, rows_wide);
      if (wanted != nullptr) {
        SHOEHORN_TRY(const at::Tensor after, stream.get((*wanted)[m]));
        one.cross.addmm_(rows_wide.t(), (after - before).reshape({-1, n_embd}));
      }
    }
  }
  for (InputStatistics& one : out) {
    if (want_gram) mirror_lower(one.gram);
    SHOEHORN_RETURN_IF_ERROR(stream.peers().sum(one.n_rows));
    SHOEHORN_RETURN_IF_ERROR(stream.peers().sum({one.sum, one.sum_squares}));
    if (want_gram) SHOEHORN_RETURN_IF_ERROR(stream.peers().sum({one.gram}));
    if (wanted != nullptr) SHOEHORN_RETURN_IF_ERROR(stream.peers().sum({one.cross}));
    if (one.n_rows > 0) continue;
    // No token went to this expert: its columns count alike.
    one.n_rows = 1;
    one.sum_squares.fill_(1);
    if (want_gram) one.gram.diagonal().fill_(1);
  }
  return out;
}

Expected<GradientScores> gradient_scores(BlockStream& stream, const GradientTask& task, const WorkDirectory& work) {
  BlockLoader& loader = stream.loader();
  const int n_layer = static_cast<int>(loader.hparams().n_layer);
  const int64_t head_dim = loader.hparams().head_dim;
  const bool want_fisher = task.method->per_sample_gradients != nullptr && task.method->per_sample_gradients(*task.settings);

  // Activations of other processes are theirs: with several, the pass is not saved half-way.
  const bool resumable = stream.peers().size() == 1;
  // Layers from `done` on have been walked back over before.
  GradientScores scores;
  int done = n_layer;
  Boundary gradients;
  for (int layer = n_layer - 1; layer >= task.first_layer; --layer) {
    if (task.dropped->contains(layer)) continue;
    if (layer <= task.last_layer) {
      SHOEHORN_TRY(const auto saved, work.load(layer_name("scores", layer)));
      if (!saved) continue;
      for (const Target* target : task.targets) {
        for (const int expert : owners(*target, loader.hparams())) {
          const auto found = saved->tensors.find(owned_name(*target, expert));
          if (found != saved->tensors.end()) scores[{layer, target->name, expert}] = found->second;
        }
      }
      if (layer == task.first_layer) return scores;
    }
    if (!resumable) continue;
    SHOEHORN_TRY(const auto saved, work.load(layer_name("gradient", layer)));
    if (!saved) continue;
    done = layer;
    stream.drop(gradients);
    for (const auto& [name, tensor] : saved->tensors) {
      SHOEHORN_TRY(const auto slot, stream.put(tensor));
      gradients.push_back(slot);
    }
  }

  stream.progress().begin("gradients", static_cast<uint64_t>(done + (done - task.first_layer)));
  std::map<int, Boundary> inputs;  // by layer, from first_layer on
  SHOEHORN_TRY(Boundary current, stream.embed(task.batches));
  for (int layer = 0; layer < done; ++layer) {
    if (task.dropped->contains(layer)) continue;
    const bool keep = layer >= task.first_layer;
    SHOEHORN_TRY(Boundary next, stream.forward(static_cast<size_t>(layer), current, keep));
    if (keep) inputs[layer] = std::move(current);
    current = std::move(next);
  }
  if (done == n_layer) {
    SHOEHORN_TRY(gradients, loss_gradients(stream, current, task.batches, task.n_samples));
  }
  stream.drop(current);

  for (int layer = done - 1; layer >= task.first_layer; --layer) {
    if (task.dropped->contains(layer)) continue;
    TensorSet weights = loader.block(static_cast<size_t>(layer));
    if (layer > 0) loader.expect(static_cast<size_t>(layer - 1));
    const models::LayerShape shape = loader.hparams().layers[static_cast<size_t>(layer)];
    GradientSums sums;
    std::vector<at::Tensor> parameters;
    if (layer <= task.last_layer) {
      for (const Target* target : task.targets) {
        for (const int expert : owners(*target, loader.hparams())) {
          for (const Role role : cut_roles(loader.architecture(), shape, head_dim, *target, expert >= 0)) {
            const models::WeightId id(role, expert);
            if (!weights[id].defined()) continue;
            sums.ids.push_back(id);
            weights[id] = weights[id].detach().requires_grad_(true);
            parameters.push_back(weights[id]);
            sums.gradient[id] = at::zeros(weights[id].sizes(), stream.model().compute().wide_options());
            if (want_fisher) sums.fisher[id] = at::zeros_like(sums.gradient[id]);
          }
        }
      }
    }
    const bool want_input = layer > task.first_layer;
    SHOEHORN_RETURN_IF_ERROR(stream.backward(
        weights, inputs[layer], gradients, parameters, want_input,
        [&](const TensorSet& w, const at::Tensor& x, size_t) { return stream.model().block(w, x); },
        [&](size_t, std::vector<at::Tensor>&& parts) { sums.add(std::move(parts), static_cast<double>(task.n_samples), want_fisher); }));

    SHOEHORN_RETURN_IF_ERROR(sums.gather(stream.peers()));
    if (want_input && resumable) SHOEHORN_RETURN_IF_ERROR(save_gradients(stream, work, layer, gradients));
    if (layer <= task.last_layer) {
      Saved saved;
      at::NoGradGuard no_gradient;
      for (const Target* target : task.targets) {
        if (target->count(shape) == 0) continue;
        for (const int expert : owners(*target, loader.hparams())) {
          LayerEvidence evidence{target, &loader.architecture(), shape, head_dim, expert, {}, {}, {}, {}};
          for (const Role role : cut_roles(loader.architecture(), shape, head_dim, *target, expert >= 0)) {
            const models::WeightId id(role, expert);
            if (!weights[id].defined()) continue;
            evidence.weights[role] = weights[id].detach().to(sums.gradient[id].scalar_type());
            evidence.gradient[role] = sums.gradient[id];
            evidence.fisher[role] = sums.fisher[id];
          }
          saved.tensors[owned_name(*target, expert)] = scores[{layer, target->name, expert}] = task.method->scores(evidence, *task.settings).to(at::kCPU);
        }
      }
      SHOEHORN_RETURN_IF_ERROR(work.save(layer_name("scores", layer), saved));
    }
    work.forget(layer_name("gradient", layer + 1));
  }
  work.forget(layer_name("gradient", task.first_layer + 1));
  stream.progress().end();
  return scores;
}

}  // namespace shoehorn::compress
