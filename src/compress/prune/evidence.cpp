#include "compress/prune/evidence.h"

#include <cmath>

#include "compress/linear_algebra.h"

namespace shoehorn::compress {
namespace {

using models::Role;

std::string layer_name(const char* what, int layer) { return fmt::format("{}-{:05}", what, layer); }

/// Gradients of one layer's tensors, summed over micro-batches in wide precision.
struct GradientSums {
  std::vector<Role> roles;
  TensorSet gradient, fisher;

  void add(std::vector<at::Tensor>&& parts, double n_samples, bool want_fisher) {
    for (size_t i = 0; i < roles.size(); ++i) {
      const at::Tensor part = parts[i].to(parts[i].scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
      parts[i] = at::Tensor();
      at::Tensor& sum = gradient[roles[i]];
      if (want_fisher) {
        // A micro-batch is one sample then, and its part of the mean loss 1 / n_samples.
        fisher[roles[i]].addcmul_(part, part, n_samples);
      }
      sum.add_(part);
    }
  }

  /// Over all processes.
  Status gather(const Peers& peers) const {
    for (const Role role : roles) {
      SHOEHORN_RETURN_IF_ERROR(peers.sum({gradient[role]}));
      if (fisher[role].defined()) SHOEHORN_RETURN_IF_ERROR(peers.sum({fisher[role]}));
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
  if (output != Role::kFfnDown) part[Role::kFfnDown] = at::Tensor();
  return part;
}

/// The residual stream of a block before its projection `output` adds to it, and what that projection reads.
at::Tensor stream_before(const TorchModel& model, const TensorSet& weights, const at::Tensor& x, Role output, at::Tensor* read) {
  return model.block(without_rest(weights, output), x, [&](Role role, const at::Tensor& input) {
    if (role != output) return project(weights, role, input);
    *read = input;
    return at::zeros({input.size(0), input.size(1), weights[output].size(0)}, input.options());
  });
}

}  // namespace

TensorSet apply(const ChangedLayer& change, const BlockLoader& loader, const TensorSet& weights) {
  TensorSet out;
  out.attention = weights.attention;
  for (const models::TensorRule& rule : loader.architecture().tensors) {
    const Role role = rule.role;
    if (change.replaced[role].defined()) {
      out[role] = change.replaced[role].to(loader.options(role));
    } else if (weights[role].defined()) {
      out[role] = cut(weights[role], rule, change);
    }
  }
  return out;
}

std::vector<Role> cut_roles(const models::Architecture& architecture, const models::LayerShape& shape, int64_t head_dim,
                            const Target& target) {
  std::vector<Role> roles;
  for (const models::TensorRule& rule : architecture.tensors) {
    if (rule.part == models::Part::kGlobal) continue;
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

Expected<InputStatistics> gather_inputs(BlockStream& stream, const TensorSet& weights, const Boundary& boundary, const Target& target,
                                        bool want_gram, const Boundary* wanted) {
  at::NoGradGuard no_gradient;
  const int64_t n_columns = weights[target.output].size(1), n_embd = weights[target.output].size(0);
  const auto wide = stream.model().compute().wide_options();
  InputStatistics out;
  out.sum = at::zeros({n_columns}, wide.dtype(at::kDouble));
  out.sum_squares = at::zeros_like(out.sum);
  if (want_gram) out.gram = at::zeros({n_columns, n_columns}, wide);
  if (wanted != nullptr) out.cross = at::zeros({n_columns, n_embd}, wide);

  for (size_t m = 0; m < boundary.size(); ++m) {
    if (stream.progress().cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    SHOEHORN_TRY(const at::Tensor x, stream.get(boundary[m]));
    at::Tensor read;  // by the target's output projection
    // The residual stream before that projection adds to it.
    const at::Tensor before = stream_before(stream.model(), weights, x, target.output, &read);
    const at::Tensor rows = read.reshape({-1, n_columns}), exact = rows.to(at::kDouble);
    out.n_rows += rows.size(0);
    out.sum += exact.sum(0);
    out.sum_squares += exact.square().sum(0);
    const at::Tensor rows_wide = rows.to(wide.dtype());
    if (want_gram) add_gram(out.gram, rows_wide);
    if (wanted != nullptr) {
      SHOEHORN_TRY(const at::Tensor after, stream.get((*wanted)[m]));
      out.cross.addmm_(rows_wide.t(), (after - before).reshape({-1, n_embd}));
    }
  }
  if (want_gram) mirror_lower(out.gram);
  SHOEHORN_RETURN_IF_ERROR(stream.peers().sum(out.n_rows));
  SHOEHORN_RETURN_IF_ERROR(stream.peers().sum({out.sum, out.sum_squares}));
  if (want_gram) SHOEHORN_RETURN_IF_ERROR(stream.peers().sum({out.gram}));
  if (wanted != nullptr) SHOEHORN_RETURN_IF_ERROR(stream.peers().sum({out.cross}));
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
        const auto found = saved->tensors.find(std::string(target->name));
        if (found != saved->tensors.end()) scores[{layer, target->name}] = found->second;
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
        for (const Role role : cut_roles(loader.architecture(), shape, head_dim, *target)) {
          if (!weights[role].defined()) continue;
          sums.roles.push_back(role);
          weights[role] = weights[role].detach().requires_grad_(true);
          parameters.push_back(weights[role]);
          sums.gradient[role] = at::zeros(weights[role].sizes(), stream.model().compute().wide_options());
          if (want_fisher) sums.fisher[role] = at::zeros_like(sums.gradient[role]);
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
        LayerEvidence evidence{target, &loader.architecture(), shape, head_dim, {}, {}, {}, {}};
        for (const Role role : cut_roles(loader.architecture(), shape, head_dim, *target)) {
          if (!weights[role].defined()) continue;
          evidence.weights[role] = weights[role].detach().to(sums.gradient[role].scalar_type());
          evidence.gradient[role] = sums.gradient[role];
          evidence.fisher[role] = sums.fisher[role];
        }
        saved.tensors[std::string(target->name)] = scores[{layer, target->name}] = task.method->scores(evidence, *task.settings).to(at::kCPU);
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
