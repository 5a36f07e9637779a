#include "compress/rotate/learn.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/memory.h"
#include "compress/blocks.h"
#include "compress/block_stream.h"
#include "compress/calibration_text.h"
#include "compress/rotate/cayley.h"
#include "quant/mix.h"
#include "quant/unpacked.h"

namespace shoehorn::compress {
namespace {

using models::Role;
using Clock = std::chrono::steady_clock;

constexpr const char* kState = "learning";
constexpr int64_t kDefaultTokens = 512;

/// A block's tensors in the rotated and quantized model, as leaves of the network; and the same again with gradients to
/// the rotations.
struct RotatedBlock {
  TensorSet weights;
  std::vector<at::Tensor> leaves, of_rotations;
};

class Learner {
 public:
  Learner(const BlockLoader& source, BlockLoader& blocks, const LearnOptions& options, const quant::Format* format, at::Tensor ids,
          at::Tensor held_out, uint64_t seed, const WorkDirectory& work, Rotations& rotations, const Compute& compute, uint64_t memory,
          Progress& progress)
      : source_(source), blocks_(blocks), o_(options), format_(format), ids_(std::move(ids)), held_out_(std::move(held_out)), seed_(seed),
        work_(work), rotations_(rotations), compute_(compute), progress_(progress), store_(work.path(), memory),
        teacher_(source.hparams(), compute), student_(student_hparams(source, rotations), compute),
        teacher_stream_(blocks, teacher_, store_, progress, alone_), stream_(blocks, student_, store_, progress, alone_), head_(blocks.head()),
        optimizer_(begin(), {.lr = options.lr}) {}

  Expected<LearnReport> run() {
    SHOEHORN_TRY(const bool found, restore());
    // In passes over a block: forward and back in a step, the source's and the held-out windows' at first.
    const auto passes = [&](int64_t steps) { return n_layer() * static_cast<uint64_t>(2 * steps + steps / o_.held_out_every); };
    progress_.begin("learning rotations", passes(o_.steps) + (o_.steps % o_.held_out_every == 0 ? 3 : 4) * n_layer());
    SHOEHORN_TRY(taught_, teach(ids_));
    SHOEHORN_TRY(taught_held_out_, teach(held_out_));
    if (!found) {
      SHOEHORN_TRY(report_.held_out_before, held_out_loss());
      report_.held_out_after = report_.held_out_before;
    } else {
      progress_.advance(passes(report_.steps) + n_layer());
    }
    auto last_save = Clock::now();
    while (report_.steps < o_.steps) {
      SHOEHORN_RETURN_IF_ERROR(train_step());
      ++report_.steps;
      if (report_.steps % o_.held_out_every == 0 || report_.steps == o_.steps) SHOEHORN_RETURN_IF_ERROR(validate());
      if (std::chrono::duration<double>(Clock::now() - last_save).count() > o_.save_seconds || report_.steps == o_.steps) {
        SHOEHORN_RETURN_IF_ERROR(save());
        last_save = Clock::now();
      }
    }
    progress_.end();
    at::NoGradGuard no_gradient;
    for (size_t i = 0; i < best_.size(); ++i) optimizer_.matrices()[i].copy_(best_[i]);
    if (best_.empty()) {
      for (size_t i = 0; i < start_.size(); ++i) optimizer_.matrices()[i].copy_(start_[i]);
    }
    for (const at::Tensor& matrix : optimizer_.matrices()) report_.defect = std::max(report_.defect, orthogonality_defect(matrix));
    hand_over(optimizer_.matrices(), rotations_);
    return report_;
  }

 private:
  static models::Hparams student_hparams(const BlockLoader& source, const Rotations& rotations) {
    models::Hparams h = source.hparams();
    h.ffn_hadamard |= !rotations.r4.empty();
    return h;
  }
  size_t n_layer() const { return source_.hparams().n_layer; }

  /// The matrices that are learned, as they are drawn: R1, then R2 by layer and head.
  std::vector<at::Tensor> begin() {
    std::vector<at::Tensor> out;
    if (rotations_.r1) out.push_back(rotations_.r1->matrix().clone());
    for (const auto& layer : rotations_.r2) {
      for (const Rotation& rotation : layer) out.push_back(rotation.matrix().clone());
    }
    for (const at::Tensor& matrix : out) start_.push_back(matrix.clone());
    return out;
  }

  /// `rotations` made of these matrices, in the order of begin().
  static void hand_over(const std::vector<at::Tensor>& matrices, Rotations& rotations) {
    size_t next = 0;
    if (rotations.r1) rotations.r1 = Rotation::of(matrices[next++]);
    for (auto& layer : rotations.r2) {
      for (Rotation& rotation : layer) rotation = Rotation::of(matrices[next++]);
    }
  }

  /// Leaves of this step, in what is computed with.
  void set_variables() {
    variables_.clear();
    gradients_.clear();
    for (const at::Tensor& matrix : optimizer_.matrices()) {
      variables_.push_back(matrix.detach().to(compute_.wide_options()).clone().requires_grad_(true));
      gradients_.push_back(at::zeros_like(matrix));
    }
    current_ = rotations_;
    hand_over(variables_, current_);
  }

  /// The variables that a layer's tensors depend on, as indices.
  std::vector<size_t> variables_of(size_t layer) const {
    std::vector<size_t> out;
    size_t next = 0;
    if (rotations_.r1) out.push_back(next++);
    for (size_t l = 0; l < rotations_.r2.size(); ++l) {
      for (size_t head = 0; head < rotations_.r2[l].size(); ++head, ++next) {
        if (l == layer) out.push_back(next);
      }
    }
    return out;
  }

  RotatedBlock rotated_block(size_t layer, bool with_gradient) {
    at::AutoGradMode mode(with_gradient);
    const Fusion fusion(source_, current_);
    RotatedBlock out;
    out.weights.attention = source_.hparams().layers[layer].attention;
    for (const models::WeightId id : source_.weights_of(layer)) {
      const at::Tensor stored = source_.stored(static_cast<int>(layer), id);
      at::Tensor fused = fusion(static_cast<int>(layer), id, stored).to(compute_.wide_options());
      if (models::is_gain(id.role)) fused = fused + static_cast<double>(source_.checkpoint().gain_offset);
      const bool rounded = fused.dim() == 2 && id.role != Role::kFfnRouter && format_ != nullptr;
      const at::Tensor computed = rounded ? round_weights(fused.contiguous(), *format_) : fused;
      at::Tensor leaf = computed.detach().to(source_.options(id.role).device(compute_.device));
      if (with_gradient && fused.requires_grad()) {
        leaf.requires_grad_(true);
        out.of_rotations.push_back(computed);
        out.leaves.push_back(leaf);
      }
      out.weights[id] = leaf;
    }
    return out;
  }

  at::Tensor block(const TensorSet& weights, const at::Tensor& x) const {
    return student_.block(weights, x, [&](models::WeightId id, const at::Tensor& input) {
      return project(weights, id, o_.activation_bits > 0 && id.role != Role::kFfnRouter ? round_activations(input, o_.activation_bits) : input);
    });
  }

  /// The source's activations behind its last block, a slot per window.
  Expected<Boundary> teach(const at::Tensor& ids) {
    at::NoGradGuard no_gradient;
    SHOEHORN_TRY(Boundary current, teacher_stream_.embed(split_batches(ids, o_.micro_batch)));
    for (size_t layer = 0; layer < n_layer(); ++layer) {
      SHOEHORN_TRY(current, teacher_stream_.forward(layer, current, false));
    }
    Boundary out;
    for (const auto slot : current) {
      SHOEHORN_TRY(const at::Tensor x, store_.get(slot));
      store_.drop(slot);
      for (const at::Tensor& window : x.unbind(0)) {
        SHOEHORN_TRY(const auto kept, store_.put(window.to(compute_.dtype).clone()));
        out.push_back(kept);
      }
    }
    return out;
  }

  struct Windows {
    std::vector<at::Tensor> ids;             // of each micro-batch
    std::vector<std::vector<size_t>> which;  // windows of each
    int64_t n_predictions = 0;
  };
  Windows windows(const at::Tensor& all, const std::vector<size_t>& chosen) const {
    Windows out;
    for (size_t first = 0; first < chosen.size(); first += static_cast<size_t>(o_.micro_batch)) {
      const size_t end = std::min(chosen.size(), first + static_cast<size_t>(o_.micro_batch));
      std::vector<at::Tensor> rows;
      for (size_t i = first; i < end; ++i) rows.push_back(all[static_cast<int64_t>(chosen[i])]);
      out.which.emplace_back(chosen.begin() + static_cast<std::ptrdiff_t>(first), chosen.begin() + static_cast<std::ptrdiff_t>(end));
      out.ids.push_back(at::stack(rows));
      out.n_predictions += out.ids.back().size(0) * (all.size(1) - 1);
    }
    return out;
  }

  /// The rotated embeddings of micro-batches.
  Expected<Boundary> embed(const std::vector<at::Tensor>& batches) {
    at::NoGradGuard no_gradient;
    Boundary out;
    for (const at::Tensor& ids : batches) {
      at::Tensor x = blocks_.embed(ids).to(compute_.device);
      if (rotations_.r1) x = at::matmul(x, variables_[0].detach());
      SHOEHORN_TRY(const auto slot, store_.put(x));
      out.push_back(slot);
    }
    return out;
  }

  Expected<Boundary> forward(const std::vector<at::Tensor>& batches, std::vector<Boundary>* inputs) {
    SHOEHORN_TRY(Boundary current, embed(batches));
    for (size_t layer = 0; layer < n_layer(); ++layer) {
      const RotatedBlock rotated = rotated_block(layer, false);
      SHOEHORN_TRY(Boundary next, stream_.forward(layer, rotated.weights, current, inputs != nullptr,
                                                  [&](const TensorSet& w, const at::Tensor& x, size_t) { return block(w, x); }));
      if (inputs != nullptr) inputs->push_back(std::move(current));
      current = std::move(next);
    }
    return current;
  }

  /// KL of a micro-batch behind the last block: the source's head reads the residual stream rotated back.
  Expected<Loss> loss(const Boundary& taught, const Windows& w, size_t m, const at::Tensor& back, bool want_gradient) {
    std::vector<at::Tensor> rows;
    for (const size_t window : w.which[m]) {
      SHOEHORN_TRY(const at::Tensor x, store_.get(taught[window]));
      rows.push_back(x);
    }
    const at::Tensor x = at::stack(rows).to(compute_.device);
    return kl_divergence({&teacher_, &head_, back}, {&teacher_, &head_, x}, next_tokens(w.ids[m]), want_gradient);
  }
  at::Tensor rotated_back(const at::Tensor& x) const { return rotations_.r1 ? at::matmul(x, variables_[0].detach().t()) : x; }

  Status train_step() {
    set_variables();
    const Windows w = windows(ids_, windows_of(report_.steps));
    std::vector<Boundary> inputs;
    SHOEHORN_TRY(Boundary last, forward(w.ids, &inputs));
    const auto n = static_cast<double>(w.n_predictions);
    double sum = 0;
    Boundary gradients;
    for (size_t m = 0; m < last.size(); ++m) {
      SHOEHORN_TRY(const at::Tensor x, stream_.get(last[m]));
      SHOEHORN_TRY(const Loss part, loss(taught_, w, m, rotated_back(x), true));
      sum += part.sum;
      at::Tensor gradient = part.gradient / n;
      if (rotations_.r1) {
        gradients_[0].add_(rows_of(gradient).t().mm(rows_of(x)).to(at::kCPU, at::kDouble));
        gradient = at::matmul(gradient, variables_[0].detach());
      }
      SHOEHORN_TRY(const auto slot, stream_.put(gradient));
      gradients.push_back(slot);
    }
    stream_.drop(last);
    if (!std::isfinite(sum)) return fail(ErrorCode::kInvalid, "step {}: the loss is {}", report_.steps + 1, sum);
    for (size_t layer = n_layer(); layer-- > 0;) SHOEHORN_RETURN_IF_ERROR(backward(layer, inputs[layer], gradients));
    for (size_t m = 0; m < gradients.size() && rotations_.r1; ++m) {
      SHOEHORN_TRY(const at::Tensor gradient, stream_.get(gradients[m]));
      gradients_[0].add_(rows_of(blocks_.embed(w.ids[m]).to(compute_.device)).t().mm(rows_of(gradient)).to(at::kCPU, at::kDouble));
    }
    stream_.drop(gradients);
    const double share = 1 - static_cast<double>(report_.steps) / static_cast<double>(o_.steps);
    if (!optimizer_.step(gradients_, share)) return fail(ErrorCode::kInvalid, "step {}: the gradient is not finite", report_.steps + 1);
    report_.losses.push_back(sum / n);
    return {};
  }

  static at::Tensor rows_of(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

  /// The gradients of a block's tensors, summed over micro-batches, and through them those of the rotations.
  Status backward(size_t layer, Boundary& inputs, Boundary& gradients) {
    const RotatedBlock rotated = rotated_block(layer, true);
    std::vector<at::Tensor> sums;
    for (const at::Tensor& leaf : rotated.leaves) sums.push_back(at::zeros_like(leaf.detach(), compute_.wide_options()));
    SHOEHORN_RETURN_IF_ERROR(stream_.backward(
        rotated.weights, inputs, gradients, rotated.leaves, true,
        [&](const TensorSet& weights, const at::Tensor& x, size_t) { return block(weights, x); },
        [&](size_t, std::vector<at::Tensor>&& parts) {
          for (size_t i = 0; i < parts.size(); ++i) sums[i].add_(parts[i]);
        }));
    if (rotated.of_rotations.empty()) return {};
    const std::vector<size_t> which = variables_of(layer);
    std::vector<at::Tensor> wanted;
    for (const size_t v : which) wanted.push_back(variables_[v]);
    const auto found = torch::autograd::grad(rotated.of_rotations, wanted, sums, {}, false, true);
    for (size_t i = 0; i < which.size(); ++i) {
      if (found[i].defined()) gradients_[which[i]].add_(found[i].to(at::kCPU, at::kDouble));
    }
    return {};
  }

  /// Every window once before any comes again, in an order drawn for each round.
  std::vector<size_t> windows_of(int64_t step) {
    const auto n = static_cast<size_t>(ids_.size(0));
    std::vector<size_t> out;
    for (auto i = static_cast<size_t>(step * o_.batch); out.size() < static_cast<size_t>(o_.batch); ++i) {
      const auto round = static_cast<int64_t>(i / n);
      if (round != round_) {
        order_ = permutation(n, seed_ * 1000003 + static_cast<uint64_t>(round));
        round_ = round;
      }
      out.push_back(order_[i % n]);
    }
    return out;
  }

  Expected<double> held_out_loss() {
    set_variables();
    std::vector<size_t> all(static_cast<size_t>(held_out_.size(0)));
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    const Windows w = windows(held_out_, all);
    SHOEHORN_TRY(Boundary last, forward(w.ids, nullptr));
    double sum = 0;
    for (size_t m = 0; m < last.size(); ++m) {
      SHOEHORN_TRY(const at::Tensor x, stream_.get(last[m]));
      SHOEHORN_TRY(const Loss part, loss(taught_held_out_, w, m, rotated_back(x), false));
      sum += part.sum;
    }
    stream_.drop(last);
    return sum / static_cast<double>(w.n_predictions);
  }

  Status validate() {
    SHOEHORN_TRY(const double found, held_out_loss());
    progress_.note(fmt::format("step {}: KL {:.5f}, held out {:.5f} (at first {:.5f})", report_.steps, report_.losses.back(), found,
                               report_.held_out_before));
    if (found >= report_.held_out_after) return {};
    report_.held_out_after = found;
    report_.best_step = report_.steps;
    best_.clear();
    for (const at::Tensor& matrix : optimizer_.matrices()) best_.push_back(matrix.clone());
    return {};
  }

  Status save() {
    Saved saved;
    for (size_t i = 0; i < start_.size(); ++i) {
      saved.tensors[fmt::format("rotation {:06}", i)] = optimizer_.matrices()[i];
      saved.tensors[fmt::format("momentum {:06}", i)] = optimizer_.momenta()[i];
      if (!best_.empty()) saved.tensors[fmt::format("best {:06}", i)] = best_[i];
    }
    saved.facts = report_.json();
    return work_.save(kState, saved);
  }

  Expected<bool> restore() {
    SHOEHORN_TRY(const auto saved, work_.load(kState));
    if (!saved) return false;
    for (size_t i = 0; i < start_.size(); ++i) {
      optimizer_.matrices()[i].copy_(saved->tensors.at(fmt::format("rotation {:06}", i)));
      optimizer_.momenta()[i].copy_(saved->tensors.at(fmt::format("momentum {:06}", i)));
      const auto best = saved->tensors.find(fmt::format("best {:06}", i));
      if (best != saved->tensors.end()) best_.push_back(best->second.clone());
    }
    const Json& facts = saved->facts;
    report_.steps = facts.at("steps");
    report_.best_step = facts.at("best_step");
    report_.losses = facts.at("losses").get<std::vector<double>>();
    report_.held_out_before = facts.at("held_out_before");
    report_.held_out_after = facts.at("held_out_after");
    progress_.note(fmt::format("going on after step {}", report_.steps));
    return true;
  }

  const BlockLoader& source_;  // tensors as they are stored
  BlockLoader& blocks_;        // on the device, to be computed with
  const LearnOptions& o_;
  const quant::Format* format_;
  at::Tensor ids_, held_out_;  // [n, n_tokens]
  uint64_t seed_;
  const WorkDirectory& work_;
  Rotations& rotations_;
  Compute compute_;
  Progress& progress_;
  ActivationStore store_;
  TorchModel teacher_, student_;
  Peers alone_;
  BlockStream teacher_stream_, stream_;
  TensorSet head_;
  std::vector<at::Tensor> start_, best_;
  CayleySgd optimizer_;
  Boundary taught_, taught_held_out_;
  std::vector<at::Tensor> variables_, gradients_;  // in the order of begin()
  Rotations current_;                              // of the variables
  std::vector<size_t> order_;
  int64_t round_ = -1;
  LearnReport report_;
};

/// The format that most of a mix's matrices are of, or a format by its own name.
Expected<const quant::Format*> parse_weight_type(const std::string& name) {
  if (name.empty()) return nullptr;
  if (const quant::Format* format = quant::find_format(name)) return format;
  if (const quant::Mix* mix = quant::find_mix(name)) return &quant::format(mix->base);
  return fail(ErrorCode::kInvalid, "--learn-weights {}: no type or mix of this name", name);
}

}  // namespace

Json LearnReport::json() const {
  return {{"steps", steps},
          {"best_step", best_step},
          {"losses", losses},
          {"held_out_before", held_out_before},
          {"held_out_after", held_out_after},
          {"orthogonality_defect", defect}};
}

Json learn_fingerprint(const LearnOptions& o) {
  if (o.steps == 0) return nullptr;
  return {{"steps", o.steps},
          {"calib", file_fingerprint(o.calib)},
          {"windows", {o.samples, o.tokens, o.held_out, o.held_out_every, o.batch, o.micro_batch}},
          {"rate", o.lr},
          {"rounded", {o.activation_bits, o.weight_type}},
          {"device", o.device}};
}

int64_t tokens_of(const LearnOptions& options, const models::Hparams& hparams) {
  return options.tokens > 0 ? options.tokens : std::min<int64_t>(kDefaultTokens, hparams.n_ctx_train);
}

at::Tensor round_activations(const at::Tensor& x, int bits) {
  const at::Tensor step = (x.abs().amax(-1, true) / static_cast<double>((1 << (bits - 1)) - 1)).clamp_min(1e-30);
  at::Tensor error;  // in steps
  {
    at::NoGradGuard no_gradient;
    const at::Tensor in_steps = x / step;
    error = in_steps.round() - in_steps;
  }
  return x + error * step;
}

at::Tensor round_weights(const at::Tensor& weight, const quant::Format& format) {
  if (weight.size(-1) % format.block_size != 0) return weight;
  const at::Tensor groups = weight.view({-1, quant::kGroup});
  const at::Tensor range = (groups.amax(-1, true) - groups.amin(-1, true)).clamp_min(1e-30);
  at::Tensor error;  // in ranges
  {
    at::NoGradGuard no_gradient;
    const at::Tensor rows = weight.detach().to(at::kCPU, at::kFloat).contiguous();
    const at::Tensor blocks = encode(rows, at::Tensor(), format);
    const at::Tensor rounded = decode(blocks.data_ptr<uint8_t>(), format, rows.size(0), rows.size(1));
    error = (rounded.to(weight.options()) - weight.detach()).view(groups.sizes()) / range.detach();
  }
  return weight + (error * range).view(weight.sizes());
}

Expected<LearnReport> learn_rotations(const BlockLoader& source, const LearnOptions& options, uint64_t seed, const WorkDirectory& work,
                                      Rotations& rotations, Progress& progress) {
  if (options.calib.empty()) return fail(ErrorCode::kInvalid, "learning needs a text: --calib FILE");
  if (!rotations.r1 && rotations.r2.empty()) return fail(ErrorCode::kInvalid, "there is nothing to learn without r1 and r2");
  if (options.activation_bits == 0 && options.weight_type.empty()) {
    return fail(ErrorCode::kInvalid, "without --learn-weights and with 0 --learn-activations nothing is rounded, so there is nothing to learn");
  }
  SHOEHORN_TRY(const quant::Format* format, parse_weight_type(options.weight_type));
  SHOEHORN_TRY(const Compute compute, choose_compute("f32", options.device));
  const models::Hparams& h = source.hparams();
  const int64_t tokens = tokens_of(options, h);
  SHOEHORN_TRY(const auto tokenizer, directory_tokenizer(source.checkpoint().directory, h.n_vocab));
  SHOEHORN_TRY(const at::Tensor held_out,
               draw_samples(options.calib, tokenizer, {.n_samples = options.held_out, .n_tokens = tokens, .seed = seed, .or_fewer = true}));
  SHOEHORN_TRY(const at::Tensor ids, draw_samples(options.calib, tokenizer,
                                                  {.n_samples = options.samples, .n_tokens = tokens, .seed = seed, .skip = held_out.size(0),
                                                   .or_fewer = true}));
  BlockLoader blocks(source.checkpoint(), compute, false);
  const uint64_t memory = options.ram > 0 ? options.ram : available_memory() / 2;
  Learner learner(source, blocks, options, format, ids, held_out, seed, work, rotations, compute, memory, progress);
  return learner.run();
}

}  // namespace shoehorn::compress
