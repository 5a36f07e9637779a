#include "compress/heal/heal.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "base/memory.h"
#include "compress/block_stream.h"
#include "compress/blocks.h"
#include "compress/calibration_text.h"
#include "compress/estimate.h"
#include "compress/heal/adapter_files.h"
#include "compress/heal/fake_quantizer.h"
#include "compress/heal/training_data.h"
#include "compress/interleaved_rows.h"
#include "compress/model_directory.h"
#include "convert/gguf_output.h"
#include "convert/naming.h"
#include "models/gguf_hparams.h"
#include "quant/mix.h"

namespace shoehorn::compress {
namespace {

using models::Role;
using Clock = std::chrono::steady_clock;

/// What libtorch, the tokenizer and the program take beside the tensors that are counted.
constexpr uint64_t kOverheadBytes = uint64_t{500} << 20;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// A model that activations go through: the one that learns, or its teacher.
struct Streamed {
  Streamed(convert::OpenedCheckpoint checkpoint, const Compute& compute, bool resident, ActivationStore& store, Progress& progress,
           const Peers& peers)
      : loader(std::move(checkpoint), compute, resident), model(loader.hparams(), compute), stream(loader, model, store, progress, peers) {}
  BlockLoader loader;
  TorchModel model;
  BlockStream stream;
};

/// The model with an adapter in its weights, rounded where they are trained for that. The adapter must outlive it.
ChangedModel merged_model(const BlockLoader& loader, const LoraAdapter& adapter, const std::string& result_dtype, std::optional<FakeQuantizer> rounding = {}) {
  ChangedModel merged;
  merged.layers = unchanged_layers(loader.hparams());
  merged.result_dtype = result_dtype;
  merged.replace = [&adapter, rounding](int layer, models::WeightId id, const at::Tensor& weight) {
    const at::Tensor whole = adapter.merged(layer, id, weight);
    return rounding && adapter.rows(layer, id).pair != nullptr ? rounding->settled(whole.to(at::kCPU).to(at::kFloat)) : whole;
  };
  return merged;
}

/// Fails where rows are no whole blocks of the type.
Status check_rows(const convert::OpenedCheckpoint& checkpoint, const quant::Format& format) {
  for (const auto& [spec, stored] : checkpoint.tensors) {
    if (projection_name(spec.rule->role).empty() || spec.shape[0] % format.block_size == 0) continue;
    return fail(ErrorCode::kUnsupported, "--qat: {} has rows of {}, {} needs a multiple of {}", spec.hf_name, spec.shape[0], format.name, format.block_size);
  }
  return {};
}

/// Types of what is not trained: they lose next to nothing.
Expected<std::vector<quant::Type>> other_types(const convert::ModelSource& source) {
  return convert::choose_output_types(source, {.mix = quant::find_mix("Q6_K")});
}

/// Types of the file that is written.
Expected<std::vector<quant::Type>> trained_types(const convert::ModelSource& source, const LoraAdapter& adapter, quant::Type type) {
  SHOEHORN_TRY(auto types, other_types(source));
  for (int layer = 0; layer < static_cast<int>(source.hparams().n_layer); ++layer) {
    for (const LoraAdapter::Whole& module : adapter.whole_modules(layer)) {
      for (const models::WeightId id : module.parts) types[source.find_rows(layer, id).index] = type;
    }
  }
  return types;
}

/// Embedding and output matrix as the file that is written will have them.
Status round_ends(const std::string& model, BlockLoader& loader) {
  NoProgress quiet;
  SHOEHORN_TRY(const auto source, convert::ModelSource::open(model, quiet));
  SHOEHORN_TRY(const auto types, other_types(source));
  for (const Role role : {Role::kTokenEmbd, Role::kOutput}) {
    if (loader.find(-1, role) != nullptr) loader.round(role, quant::format(types[source.find_rows(-1, role).index]));
  }
  return {};
}

/// Makes the projections, which are all trained whole, those of a GGUF.
Status begin_with(const std::string& path, const BlockLoader& loader, const LoraAdapter& adapter) {
  SHOEHORN_TRY(const auto file, io::GgufFile::open(path));
  SHOEHORN_TRY(const auto model, models::read_gguf_model(file));
  const bool interleaved = model.architecture->rope == models::RopeType::kNorm;
  std::map<std::pair<int, models::WeightId>, models::TensorSpec> specs;
  for (models::TensorSpec& spec : models::tensor_specs(*model.architecture, model.hparams)) specs.insert({{spec.layer, spec.id()}, std::move(spec)});
  at::NoGradGuard no_gradient;
  for (const auto& [own, stored] : loader.checkpoint().tensors) {
    const auto rows = adapter.rows(own.layer, own.id());
    if (rows.pair == nullptr) continue;
    const auto found = specs.find({own.layer, own.id()});
    if (found == specs.end()) return fail(ErrorCode::kInvalid, "--qat-from {}: nothing there is the model's {}", path, own.hf_name);
    const models::TensorSpec& spec = found->second;
    if (spec.shape != own.shape) {
      return fail(ErrorCode::kInvalid, "--qat-from {}: {} is [{}], the model's {} [{}]", path, spec.gguf_name, fmt::join(spec.shape, ", "), own.hf_name,
                  fmt::join(own.shape, ", "));
    }
    const io::GgufTensor tensor = file.find(spec.gguf_name)->rows(spec.gguf_row, spec.n_rows());
    at::Tensor w = decode(reinterpret_cast<const uint8_t*>(tensor.data.data()), quant::format(tensor.type), rows.n, static_cast<int64_t>(tensor.n_cols()));
    if (interleaved && is_interleaved(spec.rule->role)) w = deinterleaved(w, model.hparams);
    rows.delta().copy_(w.to(rows.pair->delta.options()) - loader.stored(own.layer, own.id()).to(rows.pair->delta.options()));
  }
  return {};
}

struct Plan {
  Compute compute;
  int64_t n_training = 0, n_validation = 0, steps_per_epoch = 0, n_steps = 0, n_planned = 0;
  uint64_t store_bytes = 0;
  bool resident = false;
  Estimate estimate;
};

/// Micro-batches of one global batch: this process's, and the number of tokens in those of all processes.
struct Micro {
  std::vector<Batch> batches;
  std::vector<uint64_t> index;                         ///< of each, among those of all processes
  std::vector<std::vector<const Example*>> examples;   ///< of each
  int64_t n_targets = 0, n_tokens = 0;
};

/// The teacher's last activations of single examples, on disk. They do not depend on what an example is batched with.
class TeacherCache {
 public:
  explicit TeacherCache(std::string directory) : store_(std::move(directory), 0) {}

  bool has(const std::vector<std::vector<const Example*>>& batches) const {
    for (const auto& examples : batches) {
      for (const Example* example : examples) {
        if (!slots_.contains(example)) return false;
      }
    }
    return true;
  }

  /// x [n, n_tokens, n_embd]
  Status keep(const std::vector<const Example*>& examples, const at::Tensor& x) {
    for (size_t i = 0; i < examples.size(); ++i) {
      if (slots_.contains(examples[i])) continue;
      SHOEHORN_TRY(slots_[examples[i]], store_.put(x[static_cast<int64_t>(i)].narrow(0, 0, static_cast<int64_t>(examples[i]->ids.size())).clone()));
    }
    return {};
  }

  Expected<at::Tensor> recall(const std::vector<const Example*>& examples, int64_t n_tokens) const {
    std::vector<at::Tensor> rows;
    for (const Example* example : examples) {
      SHOEHORN_TRY(const at::Tensor x, store_.get(slots_.at(example)));
      rows.push_back(at::constant_pad_nd(x, {0, 0, 0, n_tokens - x.size(0)}));
    }
    return at::stack(rows);
  }

 private:
  ActivationStore store_;
  std::map<const Example*, ActivationStore::Slot> slots_;
};

LoraSettings trained_settings(const HealOptions& o) {
  LoraSettings out = o.lora;
  if (o.qat) out.full_block = weights_of_a_scale(quant::format(*o.qat));
  return out;
}

/// Of the optimizer's steps: factors of blocks, which are relative, have a rate of their own.
std::vector<double> rates_of(const LoraAdapter& adapter, double lr) {
  constexpr double kScaleRate = 2e-3, kMostTimes = 10;
  std::vector<double> rates;
  for (const auto& [where, pair] : adapter.pairs()) {
    for (const at::Tensor& tensor : pair.tensors()) rates.push_back(tensor.is_same(pair.log_scale) ? std::min(kMostTimes, kScaleRate / lr) : 1);
  }
  return rates;
}

class Healer {
 public:
  Healer(const HealOptions& options, const Plan& plan, Streamed& student, Streamed* teacher, std::vector<Example> examples, int64_t filler,
         WorkDirectory& work, Progress& progress)
      : o_(options), plan_(plan), student_(student), teacher_(teacher), examples_(std::move(examples)), filler_(filler), work_(work),
        progress_(progress), cache_(work.path()), adapter_(student.loader, trained_settings(options), options.seed, plan.compute),
        optimizer_(adapter_.parameters(), options.adamw, rates_of(adapter_, options.adamw.lr)) {
    if (o_.qat) rounding_.emplace(quant::format(*o_.qat));
    rounded_.resize(n_layer());
    report_.parameters = adapter_.n_parameters();
    report_.steps_planned = plan.n_planned;
  }

  Expected<HealReport> run() {
    const auto start = Clock::now();
    const uint64_t read_before = storage_bytes_read();
    SHOEHORN_TRY(const bool found, restore());
    if (!found) {
      if (!o_.qat_from.empty()) SHOEHORN_RETURN_IF_ERROR(begin_with(o_.qat_from, student_.loader, adapter_));
      SHOEHORN_RETURN_IF_ERROR(first_validation());
    }
    const uint64_t per_validation = validation_passes() / static_cast<uint64_t>(o_.validate_every);
    progress_.begin("healing", static_cast<uint64_t>(plan_.n_steps) * (passes() + per_validation));
    progress_.advance(static_cast<uint64_t>(report_.steps) * (passes() + per_validation));
    auto last_save = Clock::now();
    int64_t tokens = 0;
    const int64_t first_step = report_.steps;
    while (report_.steps < plan_.n_steps) {
      SHOEHORN_TRY(const int64_t n, train_step(report_.steps));
      tokens += n;
      ++report_.steps;
      if (report_.steps % o_.validate_every == 0 || report_.steps == plan_.n_steps) SHOEHORN_RETURN_IF_ERROR(validate());
      if (seconds_since(last_save) > o_.save_seconds || report_.steps == plan_.n_steps) {
        SHOEHORN_RETURN_IF_ERROR(save());
        last_save = Clock::now();
      }
    }
    progress_.end();
    report_.seconds = seconds_since(start);
    if (report_.steps > first_step) {
      const auto n = static_cast<double>(report_.steps - first_step);
      report_.seconds_per_step = report_.seconds / n;
      report_.bytes_read_per_step = static_cast<double>(storage_bytes_read() - read_before) / n;
      report_.tokens_per_second = static_cast<double>(tokens) / report_.seconds;
    }
    SHOEHORN_RETURN_IF_ERROR(write());
    return report_;
  }

 private:
  size_t n_layer() const { return student_.loader.hparams().n_layer; }
  /// Blocks that a step goes through.
  uint64_t passes() const { return 2 * n_layer() + (teacher_ == nullptr ? 0 : teacher_->loader.hparams().n_layer); }

  uint64_t validation_passes() const {
    const auto n_batches = static_cast<uint64_t>((plan_.n_validation + o_.batch - 1) / o_.batch);
    return n_batches * (n_layer() + (teacher_ == nullptr ? 0 : teacher_->loader.hparams().n_layer));
  }

  /// The examples of an optimizer step: each epoch in an order of its own, incomplete batches at its end left out.
  std::vector<const Example*> examples_of(int64_t step) {
    const int64_t epoch = step / plan_.steps_per_epoch, in_epoch = step % plan_.steps_per_epoch;
    if (epoch != epoch_) {
      order_ = permutation(static_cast<size_t>(plan_.n_training), o_.seed * 1000003 + static_cast<uint64_t>(epoch) + 1);
      epoch_ = epoch;
    }
    std::vector<const Example*> out;
    for (int64_t i = 0; i < o_.batch; ++i) {
      out.push_back(&training(order_[static_cast<size_t>((in_epoch * o_.batch + i) % plan_.n_training)]));
    }
    return out;
  }

  /// Validation comes first in the shuffled list, training after it.
  const Example& training(size_t i) const { return examples_[static_cast<size_t>(plan_.n_validation) + i]; }

  Micro split(const std::vector<const Example*>& examples, bool share = true) const {
    const Peers& peers = student_.stream.peers();
    Micro out;
    uint64_t index = 0;
    for (size_t first = 0; first < examples.size(); first += static_cast<size_t>(o_.micro_batch)) {
      const size_t end = std::min(examples.size(), first + static_cast<size_t>(o_.micro_batch));
      std::vector<const Example*> part(examples.begin() + static_cast<std::ptrdiff_t>(first), examples.begin() + static_cast<std::ptrdiff_t>(end));
      Batch batch = make_batch(part, filler_);
      out.n_targets += batch.targets.ne(kIgnored).sum().item<int64_t>();
      out.n_tokens += batch.ids.numel();
      if (!share || index % static_cast<uint64_t>(peers.size()) == static_cast<uint64_t>(peers.rank())) {
        out.batches.push_back(std::move(batch));
        out.examples.push_back(std::move(part));
        out.index.push_back(index);
      }
      ++index;
    }
    return out;
  }

  static std::vector<at::Tensor> ids_of(const Micro& micro) {
    std::vector<at::Tensor> ids;
    for (const Batch& batch : micro.batches) ids.push_back(batch.ids);
    return ids;
  }

  /// The teacher's activations after its last block, rounded to what it computes in.
  Expected<Boundary> teach(const Micro& micro) {
    if (teacher_ == nullptr) return Boundary{};
    if (o_.teacher_cache && cache_.has(micro.examples)) return recall(micro);
    SHOEHORN_TRY(Boundary current, teacher_->stream.embed(ids_of(micro)));
    for (size_t layer = 0; layer < teacher_->loader.hparams().n_layer; ++layer) {
      SHOEHORN_TRY(current, teacher_->stream.forward(layer, current, false));
    }
    for (size_t m = 0; m < current.size(); ++m) {
      SHOEHORN_TRY(at::Tensor x, teacher_->stream.get(current[m]));
      x = x.to(plan_.compute.dtype);
      if (o_.teacher_cache) SHOEHORN_RETURN_IF_ERROR(cache_.keep(micro.examples[m], x));
      Boundary old = {current[m]};
      teacher_->stream.drop(old);
      SHOEHORN_TRY(current[m], teacher_->stream.put(x));
    }
    return current;
  }

  Expected<Boundary> recall(const Micro& micro) {
    Boundary out;
    for (size_t m = 0; m < micro.batches.size(); ++m) {
      SHOEHORN_TRY(const at::Tensor x, cache_.recall(micro.examples[m], micro.batches[m].ids.size(1)));
      SHOEHORN_TRY(const auto slot, teacher_->stream.put(x));
      out.push_back(slot);
    }
    progress_.advance(teacher_->loader.hparams().n_layer);
    return out;
  }

  /// The share of rounding in a step's weights: all of it after the warm-up, and where nothing is learned.
  double rounding_share(const DropoutDraw& draw) const {
    if (!draw.training || o_.qat_warmup == 0) return 1;
    return std::min(1.0, static_cast<double>(draw.step + 1) / static_cast<double>(o_.qat_warmup));
  }

  /// A block's weights, with those that are trained rounded: leaves, whose gradients are those of what is trained.
  struct Rounded {
    TensorSet weights;
    std::vector<at::Tensor> leaves;  ///< in the order of adapter_.whole_modules(layer)
  };
  /// From gradients of the leaves to those of adapter_.parameters(layer): they go past the rounding, which gives a block twice as large twice as
  /// large.
  std::vector<at::Tensor> past_rounding(size_t layer, const Rounded& trained, const std::vector<at::Tensor>& gradients) const {
    at::NoGradGuard no_gradient;
    std::vector<at::Tensor> out;
    const auto modules = adapter_.whole_modules(static_cast<int>(layer));
    for (size_t i = 0; i < modules.size(); ++i) {
      const at::Tensor factors = modules[i].pair->log_scale.exp().unsqueeze(2);
      const at::Tensor blocks = gradients[i].view({factors.size(0), factors.size(1), -1});
      out.push_back((blocks * factors).view_as(gradients[i]));
      out.push_back((blocks * trained.leaves[i].to(blocks.scalar_type()).view_as(blocks)).sum(2));
    }
    return out;
  }

  Rounded rounded(size_t layer, const TensorSet& stored, const DropoutDraw& draw) const {
    at::NoGradGuard no_gradient;
    const double share = rounding_share(draw);
    Rounded out{stored, {}};
    for (const LoraAdapter::Whole& module : adapter_.whole_modules(static_cast<int>(layer))) {
      std::vector<at::Tensor> parts;
      for (const models::WeightId id : module.parts) parts.push_back(stored[id].to(module.pair->delta.scalar_type()));
      const at::Tensor whole = module.pair->whole(at::cat(parts), 0);
      const at::Tensor plain = whole.to(at::kCPU).to(at::kFloat);
      const at::Tensor target = (draw.training ? (*rounding_)(plain) : rounding_->settled(plain)).to(whole.options());
      at::Tensor leaf = at::lerp(whole, target, share).to(stored[module.parts.front()].options()).detach().requires_grad_(true);
      at::AutoGradMode with_gradient(true);
      int64_t first = 0;
      for (const models::WeightId id : module.parts) {
        const int64_t n = stored[id].size(0);
        out.weights[id] = leaf.narrow(0, first, n);
        first += n;
      }
      out.leaves.push_back(std::move(leaf));
    }
    return out;
  }

  /// Of a layer, as forward() and train_step() compute with them; kept from one for the other where the models are in memory, too.
  Rounded trained_block(size_t layer, const DropoutDraw& draw, bool keep) {
    if (auto& kept = rounded_[layer]; kept && !keep) return *std::exchange(kept, std::nullopt);
    const TensorSet stored = student_.loader.block(layer);
    if (!rounding_) return Rounded{stored, {}};
    Rounded out = rounded(layer, stored, draw);
    if (keep && plan_.resident) rounded_[layer] = out;
    return out;
  }

  /// Forward through the student with its adapters; keeps every block's input in `inputs` when that is given.
  Expected<Boundary> forward(const Micro& micro, const DropoutDraw& draw, std::vector<Boundary>* inputs) {
    SHOEHORN_TRY(Boundary current, student_.stream.embed(ids_of(micro)));
    for (size_t layer = 0; layer < n_layer(); ++layer) {
      const Rounded trained = trained_block(layer, draw, inputs != nullptr);
      const TensorSet& weights = trained.weights;
      SHOEHORN_TRY(Boundary next, student_.stream.forward(layer, weights, current, inputs != nullptr,
                                                          [&](const TensorSet& w, const at::Tensor& x, size_t m) { return block(layer, w, x, micro.index[m], draw); }));
      if (inputs != nullptr) inputs->push_back(std::move(current));
      current = std::move(next);
    }
    return current;
  }

  at::Tensor block(size_t layer, const TensorSet& weights, const at::Tensor& x, uint64_t micro_batch, DropoutDraw draw) {
    draw.micro_batch = micro_batch;
    if (rounding_) return student_.model.block(weights, x);
    return student_.model.block(weights, x, adapter_.projection(static_cast<int>(layer), weights, draw));
  }

  struct Heads {
    TensorSet student, teacher;
  };
  Heads heads() {
    Heads out;
    out.student = student_.loader.head();
    if (teacher_ != nullptr) out.teacher = teacher_->loader.head();
    return out;
  }

  /// The loss of micro-batch m, and its gradient.
  Expected<Loss> loss(const Heads& heads, const Batch& batch, const at::Tensor& x, const Boundary& taught, size_t m, bool want_gradient) {
    const HeadInput input{&student_.model, &heads.student, x};
    if (teacher_ == nullptr) return cross_entropy(input, batch.targets, want_gradient);
    SHOEHORN_TRY(const at::Tensor teacher_x, teacher_->stream.get(taught[m]));
    return kl_divergence(input, {&teacher_->model, &heads.teacher, teacher_x}, batch.targets, want_gradient);
  }

  /// One optimizer step; the number of tokens that went through.
  Expected<int64_t> train_step(int64_t step) {
    const Micro micro = split(examples_of(step));
    const DropoutDraw draw{o_.seed, static_cast<uint64_t>(step), 0, true};
    SHOEHORN_TRY(Boundary taught, teach(micro));
    std::vector<Boundary> inputs;
    SHOEHORN_TRY(Boundary last, forward(micro, draw, &inputs));
    double sum = 0;
    Boundary gradients;
    {
      const Heads head = heads();
      for (size_t m = 0; m < last.size(); ++m) {
        SHOEHORN_TRY(const at::Tensor x, student_.stream.get(last[m]));
        SHOEHORN_TRY(const Loss part, loss(head, micro.batches[m], x, taught, m, true));
        sum += part.sum;
        SHOEHORN_TRY(const auto slot, student_.stream.put(part.gradient / static_cast<double>(micro.n_targets)));
        gradients.push_back(slot);
      }
    }
    student_.stream.drop(last);
    if (teacher_ != nullptr) teacher_->stream.drop(taught);
    SHOEHORN_RETURN_IF_ERROR(student_.stream.peers().sum(sum));
    const double mean = sum / static_cast<double>(micro.n_targets);
    if (!std::isfinite(mean)) return fail(ErrorCode::kInvalid, "step {}: the loss is {}; a smaller --lr or --dtype f32 may help", step + 1, mean);

    std::vector<std::vector<at::Tensor>> by_layer(n_layer());
    for (size_t layer = n_layer(); layer-- > 0;) {
      const Rounded trained = trained_block(layer, draw, false);
      if (layer > 0) student_.loader.expect(layer - 1);
      const std::vector<at::Tensor> parameters = rounding_ ? trained.leaves : adapter_.parameters(static_cast<int>(layer));
      for (const at::Tensor& parameter : parameters) by_layer[layer].push_back(at::zeros(parameter.sizes(), plan_.compute.wide_options()));
      const TensorSet& weights = trained.weights;
      SHOEHORN_RETURN_IF_ERROR(student_.stream.backward(
          weights, inputs[layer], gradients, parameters, layer > 0,
          [&](const TensorSet& w, const at::Tensor& x, size_t m) { return block(layer, w, x, micro.index[m], draw); },
          [&](size_t, std::vector<at::Tensor>&& parts) {
            for (size_t i = 0; i < parts.size(); ++i) by_layer[layer][i].add_(parts[i]);
          }));
      if (rounding_) by_layer[layer] = past_rounding(layer, trained, by_layer[layer]);
    }
    std::vector<at::Tensor> all;
    for (auto& layer : by_layer) all.insert(all.end(), layer.begin(), layer.end());
    SHOEHORN_RETURN_IF_ERROR(student_.stream.peers().sum(all));
    const double norm = optimizer_.step(all, step, plan_.n_steps);
    if (!std::isfinite(norm)) return fail(ErrorCode::kInvalid, "step {}: the gradient is not finite; a smaller --lr may help", step + 1);
    report_.losses.push_back(mean);
    report_.examples += o_.batch;
    report_.tokens += micro.n_tokens;
    return micro.n_tokens;
  }

  /// Mean loss on the examples that are not learned from; NaN when there are none.
  Expected<double> validation_loss() {
    if (plan_.n_validation == 0) return std::numeric_limits<double>::quiet_NaN();
    double sum = 0;
    int64_t count = 0;
    for (int64_t first = 0; first < plan_.n_validation; first += o_.batch) {
      std::vector<const Example*> part;
      for (int64_t i = first; i < std::min(plan_.n_validation, first + o_.batch); ++i) part.push_back(&examples_[static_cast<size_t>(i)]);
      const Micro micro = split(part);
      SHOEHORN_TRY(Boundary taught, teach(micro));
      SHOEHORN_TRY(Boundary last, forward(micro, {}, nullptr));
      const Heads head = heads();
      for (size_t m = 0; m < last.size(); ++m) {
        SHOEHORN_TRY(const at::Tensor x, student_.stream.get(last[m]));
        SHOEHORN_TRY(const Loss found, loss(head, micro.batches[m], x, taught, m, false));
        sum += found.sum;
        count += found.count;
      }
      student_.stream.drop(last);
      if (teacher_ != nullptr) teacher_->stream.drop(taught);
    }
    SHOEHORN_RETURN_IF_ERROR(student_.stream.peers().sum(sum));
    SHOEHORN_RETURN_IF_ERROR(student_.stream.peers().sum(count));
    return sum / static_cast<double>(count);
  }

  Status first_validation() {
    if (plan_.n_validation == 0) return {};
    progress_.begin("validating", validation_passes());
    SHOEHORN_TRY(report_.validation_before, validation_loss());
    progress_.end();
    progress_.note(fmt::format("validation loss before {:.4f}", report_.validation_before));
    best_loss_ = report_.validation_before;
    keep_best();
    return {};
  }

  void keep_best() {
    best_ = adapter_.named();
    for (auto& [name, tensor] : best_) tensor = tensor.clone();
  }

  /// Keeps the adapter when it is the best so far.
  Status validate() {
    if (plan_.n_validation == 0) return {};
    SHOEHORN_TRY(const double found, validation_loss());
    progress_.note(fmt::format("step {}: loss {:.4f}, validation {:.4f}", report_.steps, report_.losses.back(), found));
    if (found < best_loss_) {
      best_loss_ = found;
      report_.best_step = report_.steps;
      keep_best();
    }
    return {};
  }

  Status save() {
    Saved saved;
    for (const auto& [name, tensor] : adapter_.named()) saved.tensors["adapter " + name] = tensor;
    for (const auto& [name, tensor] : best_) saved.tensors["best " + name] = tensor;
    for (size_t i = 0; i < optimizer_.first().size(); ++i) {
      saved.tensors[fmt::format("first {:06}", i)] = optimizer_.first()[i];
      saved.tensors[fmt::format("second {:06}", i)] = optimizer_.second()[i];
    }
    saved.facts = {{"steps", report_.steps},   {"examples", report_.examples}, {"tokens", report_.tokens},
                   {"losses", report_.losses}, {"best_step", report_.best_step}};
    if (plan_.n_validation > 0) {
      saved.facts["validation_before"] = report_.validation_before;
      saved.facts["best_loss"] = best_loss_;
    }
    return work_.save("training", saved);
  }

  Expected<bool> restore() {
    SHOEHORN_TRY(const auto saved, work_.load("training"));
    if (!saved) return false;
    at::NoGradGuard no_gradient;
    for (auto& [name, tensor] : adapter_.named()) {
      const auto found = saved->tensors.find("adapter " + name);
      if (found == saved->tensors.end()) return fail(ErrorCode::kInvalid, "{}: the saved state lacks {}", work_.path(), name);
      tensor.copy_(found->second);
      if (const auto best = saved->tensors.find("best " + name); best != saved->tensors.end()) best_[name] = best->second.to(tensor.device());
    }
    for (size_t i = 0; i < optimizer_.first().size(); ++i) {
      optimizer_.first()[i].copy_(saved->tensors.at(fmt::format("first {:06}", i)));
      optimizer_.second()[i].copy_(saved->tensors.at(fmt::format("second {:06}", i)));
    }
    const Json& facts = saved->facts;
    report_.steps = facts.at("steps");
    report_.examples = facts.at("examples");
    report_.tokens = facts.at("tokens");
    report_.losses = facts.at("losses").get<std::vector<double>>();
    report_.best_step = facts.at("best_step");
    if (plan_.n_validation > 0) {
      report_.validation_before = facts.at("validation_before");
      best_loss_ = facts.at("best_loss");
    }
    progress_.note(fmt::format("going on after step {}", report_.steps));
    return true;
  }

  /// Merges the best adapter (the last one without validation) and writes everything.
  Status write() {
    at::NoGradGuard no_gradient;
    if (plan_.n_validation > 0) {
      report_.validation_after = best_loss_;
      for (auto& [name, tensor] : adapter_.named()) tensor.copy_(best_.at(name));
    }
    if (!student_.stream.peers().first()) return {};
    // Differences of full rank are in the merged weights only.
    if (adapter_.low_rank()) SHOEHORN_RETURN_IF_ERROR(write_adapter());
    const ChangedModel merged = merged_model(student_.loader, adapter_, o_.result_dtype, rounding_);
    SHOEHORN_RETURN_IF_ERROR(write_model_directory(student_.loader, merged, work_.path(), progress_));
    if (rounding_) SHOEHORN_RETURN_IF_ERROR(write_quantized());
    if (plan_.n_validation > 0) SHOEHORN_RETURN_IF_ERROR(measure_rounding());
    return work_.finish(report_.json());
  }

  /// The merged weights, which are on the type's grid already, as a GGUF of it.
  Status write_quantized() {
    SHOEHORN_TRY(const auto source, convert::ModelSource::open(work_.path(), progress_));
    convert::OutputOptions output;
    SHOEHORN_TRY(output.types, trained_types(source, adapter_, *o_.qat));
    output.mix = quant::find_mix(rounding_->format().name);
    if (output.mix == nullptr) output.mix = &quant::mixes().front();
    output.n_threads = o_.n_threads;
    output.remarks.emplace_back("shoehorn.quantize.method", std::string("qat"));
    io::GgufMetadata names;  // those of the directory that it will be in
    convert::write_general_names(convert::parse_model_name(o_.out, models::count_parameters(source.architecture(), source.hparams())), names);
    for (const auto& [key, value] : names.entries()) output.remarks.emplace_back(key, value);
    report_.gguf = fmt::format("model-{}.gguf", rounding_->format().name);
    SHOEHORN_TRY(const auto written, convert::write_gguf(source, work_.path() + "/" + report_.gguf, output, progress_));
    return {};
  }

  Status write_adapter() {
    const std::string directory = work_.path() + "/adapter";
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) return fail(ErrorCode::kIo, "{}: {}", directory, error.message());
    SHOEHORN_RETURN_IF_ERROR(write_peft(adapter_, o_.model, directory));
    return write_adapter_gguf(adapter_, student_.loader, directory + "/adapter.gguf");
  }

  /// KL divergence of the written weights from weights with the adapter beside them, on validation examples.
  Status measure_rounding() {
    std::vector<const Example*> part;
    for (int64_t i = 0; i < std::min(plan_.n_validation, o_.batch); ++i) part.push_back(&examples_[static_cast<size_t>(i)]);
    const Micro micro = split(part, false);
    SHOEHORN_TRY(auto written, convert::open_checkpoint(work_.path(), progress_));
    BlockLoader loader(std::move(written), plan_.compute, false);
    if (rounding_) SHOEHORN_RETURN_IF_ERROR(round_ends(work_.path(), loader));
    progress_.begin("what rounding costs", 2 * n_layer());
    SHOEHORN_TRY(Boundary exact, forward(micro, {}, nullptr));
    const Peers alone;
    BlockStream stream(loader, student_.model, student_.stream.store(), progress_, alone);
    SHOEHORN_TRY(Boundary rounded, stream.embed(ids_of(micro)));
    for (size_t layer = 0; layer < n_layer(); ++layer) {
      SHOEHORN_TRY(rounded, stream.forward(layer, rounded, false));
    }
    const TensorSet head = student_.loader.head(), rounded_head = loader.head();
    double sum = 0;
    int64_t count = 0;
    for (size_t m = 0; m < exact.size(); ++m) {
      SHOEHORN_TRY(const at::Tensor before, stream.get(exact[m]));
      SHOEHORN_TRY(const at::Tensor after, stream.get(rounded[m]));
      const Loss found = kl_divergence({&student_.model, &rounded_head, after}, {&student_.model, &head, before}, micro.batches[m].targets, false);
      sum += found.sum;
      count += found.count;
    }
    stream.drop(exact);
    stream.drop(rounded);
    progress_.end();
    report_.rounding_kl = sum / static_cast<double>(count);
    return {};
  }

  const HealOptions& o_;
  const Plan& plan_;
  Streamed& student_;
  Streamed* teacher_;
  std::vector<Example> examples_;
  int64_t filler_;
  WorkDirectory& work_;
  Progress& progress_;
  TeacherCache cache_;
  LoraAdapter adapter_;
  std::optional<FakeQuantizer> rounding_;
  std::vector<std::optional<Rounded>> rounded_;  // [n_layer]
  AdamW optimizer_;
  HealReport report_;
  NamedTensors best_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  int64_t epoch_ = -1;
  std::vector<size_t> order_;
};

Status check_options(const HealOptions& o) {
  if (o.lora.rank < 1 || o.lora.rank > 4096) return fail(ErrorCode::kInvalid, "--rank is {}, expected 1 to 4096", o.lora.rank);
  if (!(o.lora.dropout >= 0 && o.lora.dropout < 1)) return fail(ErrorCode::kInvalid, "--dropout is {}, expected 0 to below 1", o.lora.dropout);
  if (!o.qat_from.empty() && !o.qat) return fail(ErrorCode::kInvalid, "--qat-from goes with --qat: what is trained whole, and rounded, begins with its weights");
  if (o.batch < 1 || o.micro_batch < 1) return fail(ErrorCode::kInvalid, "--batch and --micro-batch start at 1");
  if (o.qat && !is_for_training(quant::format(*o.qat)))
    return fail(ErrorCode::kInvalid, "--qat {}: rounding to it loses next to nothing; quantize does it", quant::format(*o.qat).name);
  if (o.qat && o.result_dtype != "f32") return fail(ErrorCode::kInvalid, "--qat writes its checkpoint as f32: no narrower type holds rounded weights as they are");
  if (o.cutoff < 2) return fail(ErrorCode::kInvalid, "--cutoff is {}, a loss needs at least 2 tokens", o.cutoff);
  for (const char* known : {"", "bf16", "f16", "f32"}) {
    if (o.result_dtype == known) return {};
  }
  return fail(ErrorCode::kInvalid, "--dtype {}: expected bf16, f16 or f32", o.result_dtype);
}

Status plan_memory(const HealOptions& o, const BlockLoader& student, const BlockLoader* teacher, Plan& plan) {
  const models::Hparams& h = student.hparams();
  const uint64_t wide = c10::elementSize(plan.compute.wide());
  const uint64_t block = std::max(student.largest_block_bytes(), teacher == nullptr ? 0 : teacher->largest_block_bytes());
  const uint64_t head = student.head_bytes() + (teacher == nullptr ? 0 : teacher->head_bytes()) + (uint64_t{400} << 20);
  const LoraAdapter adapter(student, trained_settings(o), o.seed, plan.compute);
  // Weights, both moments, gradients, the best so far and what is being saved; rounded ones beside them.
  const uint64_t trained = static_cast<uint64_t>(adapter.n_parameters()) * wide * (o.qat ? 7 : 6);
  const uint64_t tokens = static_cast<uint64_t>(o.micro_batch * o.cutoff);
  const uint64_t batch = tokens * (uint64_t{h.max_n_ff()} * 10 + h.n_embd * 24) * wide + tokens * static_cast<uint64_t>(o.cutoff) * h.max_n_head() * wide * 4;
  const uint64_t needed = kOverheadBytes + std::max(block * 2, head) + trained + batch;
  const uint64_t limit = o.ram > 0 ? o.ram : available_memory();
  if (needed > limit) {
    return fail(ErrorCode::kTooLarge,
                "healing {} takes about {} (two blocks {}, the heads {}, the adapter and its moments {}, a micro-batch of {} tokens {}), {} is {}; "
                "a smaller --micro-batch, --cutoff or --rank takes less",
                o.model, format_bytes(needed), format_bytes(block * 2), format_bytes(head), format_bytes(trained), tokens, format_bytes(batch),
                o.ram > 0 ? "--ram" : "the free memory", format_bytes(limit));
  }
  const uint64_t left = limit - needed, models = student.total_bytes() + (teacher == nullptr ? 0 : teacher->total_bytes());
  plan.resident = models < left / 2;
  plan.store_bytes = plan.resident ? left - models : left;

  const uint64_t step_tokens = static_cast<uint64_t>(o.batch * o.cutoff);
  const uint64_t activations = step_tokens * h.n_embd * wide * (h.n_layer + 2);
  plan.estimate.memory_bytes = needed + std::min(plan.store_bytes, activations) + (plan.resident ? models : 0);
  plan.estimate.layers = h.layers;
  // With the adapter in PEFT's form and as a GGUF.
  plan.estimate.output_bytes = student.checkpoint().weights->file_bytes() + 2 * (trained / 6);
  plan.estimate.working_bytes = trained + (activations > plan.store_bytes ? activations - plan.store_bytes : 0);
  if (o.teacher_cache && teacher != nullptr) {
    plan.estimate.working_bytes += static_cast<uint64_t>((plan.n_training + plan.n_validation) * o.cutoff) * h.n_embd * c10::elementSize(plan.compute.dtype);
  }
  // Forward, again for the backward pass, and back to the inputs; weights themselves get no gradient.
  const double per_token = 3 * block_multiply_adds(student, o.cutoff) + 2 * head_multiply_adds(student) +
                           (teacher == nullptr ? 0 : block_multiply_adds(*teacher, o.cutoff) + head_multiply_adds(*teacher));
  plan.estimate.multiply_adds = static_cast<double>(plan.n_steps) * static_cast<double>(step_tokens) * per_token;
  return {};
}

Json fingerprint(const HealOptions& o, const Plan& plan, const convert::OpenedCheckpoint& model, const convert::OpenedCheckpoint* teacher) {
  const auto names = [](const std::vector<Role>& roles) {
    Json out = Json::array();
    for (const Role role : roles) out.push_back(projection_name(role));
    return out;
  };
  return {{"program", "shoehorn heal 2"},
          {"source", source_fingerprint(model)},
          {"teacher", teacher == nullptr ? Json() : source_fingerprint(*teacher)},
          {"data", file_fingerprint(o.data)},
          {"qat", o.qat ? Json{quant::format(*o.qat).name, o.qat_warmup, o.qat_from.empty() ? Json() : file_fingerprint(o.qat_from)} : Json()},
          {"lora", {o.lora.rank, o.lora.alpha, o.lora.dropout, names(o.lora.targets), names(o.lora.full)}},
          {"adamw", {o.adamw.lr, o.adamw.beta1, o.adamw.beta2, o.adamw.epsilon, o.adamw.weight_decay, o.adamw.clip, o.adamw.warmup, o.adamw.schedule}},
          {"steps", {o.epochs, o.max_steps, o.batch, o.micro_batch, o.cutoff, o.validation, o.validate_every}},
          {"seed", o.seed},
          {"compute", {std::string(c10::toString(plan.compute.dtype)), o.device, o.result_dtype}},
          {"threads", at::get_num_threads()}};
}

}  // namespace

Json HealReport::json() const {
  Json out = {{"trainable_parameters", parameters}, {"steps", steps}, {"steps_planned", steps_planned}, {"examples", examples},
              {"tokens", tokens}, {"best_step", best_step}, {"losses", losses}};
  if (!gguf.empty()) out["gguf"] = gguf;
  if (std::isfinite(validation_before)) {
    out["validation_before"] = validation_before;
    out["validation_after"] = validation_after;
    out["rounding_kld"] = rounding_kl;
  }
  return out;
}

HealReport HealReport::parse(const Json& json) {
  HealReport report;
  report.parameters = json.at("trainable_parameters");
  report.steps = json.at("steps");
  report.steps_planned = json.at("steps_planned");
  report.examples = json.at("examples");
  report.tokens = json.at("tokens");
  report.best_step = json.at("best_step");
  report.gguf = json.value("gguf", "");
  report.losses = json.at("losses").get<std::vector<double>>();
  report.validation_before = json.value("validation_before", kNone);
  report.validation_after = json.value("validation_after", kNone);
  report.rounding_kl = json.value("rounding_kld", kNone);
  return report;
}

namespace {

struct Prepared {
  convert::OpenedCheckpoint checkpoint;
  std::optional<convert::OpenedCheckpoint> teacher;
  tokenizer::Tokenizer tokenizer;
  std::vector<Example> shuffled;
  Plan plan;
};

Expected<Prepared> prepare(const HealOptions& options, Progress& progress) {
  SHOEHORN_RETURN_IF_ERROR(check_options(options));
  set_torch_threads(options.n_threads);
  Plan plan;
  SHOEHORN_TRY(plan.compute, choose_compute(options.compute_dtype, options.device));
  SHOEHORN_TRY(auto checkpoint, convert::open_checkpoint(options.model, progress));
  if (options.qat) SHOEHORN_RETURN_IF_ERROR(check_rows(checkpoint, quant::format(*options.qat)));
  std::optional<convert::OpenedCheckpoint> teacher;
  if (!options.teacher.empty()) {
    SHOEHORN_TRY(teacher, convert::open_checkpoint(options.teacher, progress));
    if (teacher->config.hparams.n_vocab != checkpoint.config.hparams.n_vocab) {
      return fail(ErrorCode::kInvalid, "the teacher's vocabulary has {} tokens, the model's {}", teacher->config.hparams.n_vocab,
                  checkpoint.config.hparams.n_vocab);
    }
  }
  SHOEHORN_TRY(auto tokenizer, directory_tokenizer(options.model, checkpoint.config.hparams.n_vocab));
  SHOEHORN_TRY(auto examples, read_examples(options.data, tokenizer, static_cast<size_t>(options.cutoff)));
  const auto n_examples = static_cast<int64_t>(examples.size());
  plan.n_validation = std::min(options.validation, n_examples / 10);
  plan.n_training = n_examples - plan.n_validation;
  plan.steps_per_epoch = std::max<int64_t>(1, plan.n_training / options.batch);
  plan.n_planned = plan.steps_per_epoch * options.epochs;
  plan.n_steps = options.max_steps > 0 ? std::min(options.max_steps, plan.n_planned) : plan.n_planned;
  std::vector<Example> shuffled;
  for (const size_t i : permutation(examples.size(), options.seed)) shuffled.push_back(std::move(examples[i]));
  {
    const BlockLoader student(checkpoint, plan.compute, false);
    std::optional<BlockLoader> teacher_loader;
    if (teacher) teacher_loader.emplace(*teacher, plan.compute, false);
    SHOEHORN_RETURN_IF_ERROR(plan_memory(options, student, teacher_loader ? &*teacher_loader : nullptr, plan));
  }
  return Prepared{std::move(checkpoint), std::move(teacher), std::move(tokenizer), std::move(shuffled), std::move(plan)};
}

}  // namespace

Expected<Json> estimate_heal(const HealOptions& options, Progress& progress) {
  return guarded("heal", [&]() -> Expected<Json> {
    SHOEHORN_TRY(const Prepared prepared, prepare(options, progress));
    return prepared.plan.estimate.json(prepared.plan.compute);
  });
}

Expected<HealReport> heal(const HealOptions& options, Progress& progress) {
  return guarded("heal", [&]() -> Expected<HealReport> {
    SHOEHORN_TRY(auto prepared, prepare(options, progress));
    auto& [checkpoint, teacher_checkpoint, tokenizer, shuffled, plan] = prepared;
    SHOEHORN_TRY(const std::string estimate, describe(plan.estimate, plan.compute, options.out));
    progress.note(fmt::format("{} steps on {} examples take at most {}", plan.n_steps, plan.n_training, estimate));
    SHOEHORN_TRY(const auto peers, Peers::join(plan.compute.device));
    SHOEHORN_TRY(auto work, WorkDirectory::open(options.out, fingerprint(options, plan, checkpoint, teacher_checkpoint ? &*teacher_checkpoint : nullptr),
                                                options.resume, peers));
    if (work.complete()) {
      progress.note(options.out + " is complete");
      return HealReport::parse(*work.complete());
    }

    ActivationStore store(work.path(), plan.store_bytes);
    Streamed student(std::move(checkpoint), plan.compute, plan.resident, store, progress, peers);
    if (options.qat) SHOEHORN_RETURN_IF_ERROR(round_ends(options.model, student.loader));
    std::optional<Streamed> teacher;
    if (teacher_checkpoint) teacher.emplace(std::move(*teacher_checkpoint), plan.compute, plan.resident, store, progress, peers);
    const auto& vocab = tokenizer.vocab();
    const int64_t filler = vocab.pad ? *vocab.pad : vocab.eos ? *vocab.eos : 0;
    Healer healer(options, plan, student, teacher ? &*teacher : nullptr, std::move(shuffled), filler, work, progress);
    return healer.run();
  });
}

Status merge_adapter(const MergeOptions& options, Progress& progress) {
  return guarded("merge", [&]() -> Status {
    set_torch_threads(options.n_threads);
    const Compute compute{at::kCPU, at::kFloat};
    SHOEHORN_TRY(auto checkpoint, convert::open_checkpoint(options.model, progress));
    Json sources = {{"program", "shoehorn merge 1"}, {"source", source_fingerprint(checkpoint)}, {"dtype", options.result_dtype},
                    {"adapter", {file_fingerprint(options.adapter + "/adapter_config.json"), file_fingerprint(options.adapter + "/adapter_model.safetensors")}}};
    const BlockLoader loader(std::move(checkpoint), compute, false);
    SHOEHORN_TRY(const LoraAdapter adapter, read_peft(options.adapter, loader, compute));
    if (!options.gguf.empty()) SHOEHORN_RETURN_IF_ERROR(write_adapter_gguf(adapter, loader, options.gguf));
    if (options.out.empty()) return {};
    const Peers alone;
    SHOEHORN_TRY(auto work, WorkDirectory::open(options.out, sources, true, alone));
    if (work.complete()) return {};
    const Json report = {{"merged", {{"adapter", options.adapter}, {"rank", adapter.settings().rank}, {"alpha", adapter.settings().alpha}}}};
    SHOEHORN_RETURN_IF_ERROR(write_model_directory(loader, merged_model(loader, adapter, options.result_dtype), work.path(), progress));
    return work.finish(report);
  });
}

}  // namespace shoehorn::compress
