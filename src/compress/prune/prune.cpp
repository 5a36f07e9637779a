#include "compress/prune/prune.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/memory.h"
#include "compress/calibration_text.h"
#include "compress/estimate.h"
#include "compress/experts.h"
#include "compress/prune/branches.h"
#include "compress/prune/evidence.h"
#include "compress/prune/widths.h"

namespace shoehorn::compress {
namespace {

using models::LayerShape;
using models::Role;

constexpr std::string_view kLayers = "layers";
constexpr int64_t kCheckSamples = 8;

/// The options with every default filled in, and what they mean for this model.
struct Plan {
  const Method* method = nullptr;
  std::vector<const Target*> targets;   ///< attention before mlp, as the data goes
  bool drop_layers = false;
  int first_layer = 0, last_layer = 0;
  int64_t samples = 0, seq_len = 0;
  int64_t enough_tokens = 0;            ///< fewer give the method too little to judge by
  Compute compute;
  uint64_t store_bytes = 0;             ///< memory for activations
  bool resident = false;
  Estimate estimate;
};

int64_t multiple_of(const PruneOptions& options, const Target& target) {
  // A multiple meant for neurons makes no sense for the few units of attention.
  return options.multiple_of > 0 && target.default_multiple > 1 ? options.multiple_of : target.default_multiple;
}

Expected<Plan> make_plan(const PruneOptions& o, const convert::OpenedCheckpoint& checkpoint) {
  const models::Hparams& h = checkpoint.config.hparams;
  Plan plan;
  plan.method = find_method(o.method);
  if (plan.method == nullptr) {
    std::string names;
    for (const Method* m : methods()) names += (names.empty() ? "" : ", ") + std::string(m->name);
    return fail(ErrorCode::kInvalid, "--method {}: there are {}", o.method, names);
  }
  if (!(o.ratio > 0 && o.ratio < 1)) return fail(ErrorCode::kInvalid, "--ratio is {}, expected a number between 0 and 1", o.ratio);
  if (o.targets.empty()) return fail(ErrorCode::kInvalid, "no --target");
  for (const std::string& name : o.targets) {
    if (name == kLayers) {
      plan.drop_layers = true;
      continue;
    }
    const Target* target = find_target(name);
    if (target == nullptr) return fail(ErrorCode::kInvalid, "--target {}: there are mlp, attention, heads and layers", name);
    plan.targets.push_back(target);
  }
  std::stable_sort(plan.targets.begin(), plan.targets.end(),
                   [](const Target* a, const Target* b) { return a->output == Role::kAttnOutput && b->output != Role::kAttnOutput; });
  if (plan.targets.size() > 1 && plan.targets[0]->output == plan.targets[1]->output) {
    return fail(ErrorCode::kInvalid, "--target {} and {} cut the same tensors; choose one of them, or prune twice", plan.targets[0]->name,
                plan.targets[1]->name);
  }
  if (o.search_widths && (plan.targets.size() != 1 || plan.drop_layers)) {
    return fail(ErrorCode::kInvalid, "--widths search works on one target at a time");
  }
  const int n_layer = static_cast<int>(h.n_layer);
  plan.first_layer = o.first_layer;
  plan.last_layer = o.last_layer < 0 ? n_layer - 1 : o.last_layer;
  if (plan.first_layer < 0 || plan.last_layer >= n_layer || plan.first_layer > plan.last_layer) {
    return fail(ErrorCode::kInvalid, "--layers {}-{}: the model has layers 0 to {}", plan.first_layer, plan.last_layer, n_layer - 1);
  }
  if (plan.drop_layers && std::ranges::any_of(h.layers, [&](const LayerShape& layer) { return layer.attention != h.layers[0].attention; })) {
    return fail(ErrorCode::kUnsupported, "{}: what a layer of {} sees depends on its place, so that none can be dropped; prune its mlp or attention",
                o.model, checkpoint.config.hf_architecture);
  }
  for (const Target* target : plan.targets) {
    const int64_t multiple = multiple_of(o, *target);
    for (int layer = plan.first_layer; layer <= plan.last_layer; ++layer) {
      const int64_t n = target->count(h.layers[static_cast<size_t>(layer)]);
      if (n > 0 && n < multiple) {
        return fail(ErrorCode::kInvalid, "layer {} has {} units of {}, fewer than --multiple-of {}", layer, n, target->name, multiple);
      }
    }
    if (target->output == Role::kFfnDown && h.ffn_hadamard) {
      return fail(ErrorCode::kUnsupported, "{}: its down_proj reads Hadamard transforms (R4), in which every neuron is in every value; "
                  "prune first, then rotate", o.model);
    }
    if (plan.method->adds_bias) {
      const Role bias = bias_of(target->output);
      const bool of_experts = owners(*target, h).front() >= 0;  // which have none in any GGUF
      if (of_experts || std::ranges::none_of(checkpoint.config.architecture->tensors, [&](const auto& rule) { return rule.role == bias; })) {
        return fail(ErrorCode::kUnsupported, "{} adds a bias to the {} output, for which {} has no place; wanda and obs need none", o.method,
                    target->name, checkpoint.config.hf_architecture);
      }
    }
  }
  SHOEHORN_TRY(plan.compute, choose_compute(o.dtype, o.device));
  plan.samples = o.samples > 0 ? o.samples : plan.method->default_samples;
  plan.seq_len = o.seq_len > 0 ? o.seq_len : plan.method->default_tokens;
  if (plan.method->evidence(o.settings) == Evidence::kGram) {
    uint32_t widest = 0;
    for (const Target* target : plan.targets) {
      widest = std::max(widest, target->output == Role::kFfnDown ? h.max_n_ff() : h.max_n_head() * h.head_dim);
    }
    // An expert sees a share of them.
    plan.enough_tokens = 4 * int64_t{widest} * (h.n_expert > 0 ? int64_t{h.n_expert} / h.n_expert_used : 1);
    if (plan.samples == 0) plan.samples = (plan.enough_tokens + plan.seq_len - 1) / plan.seq_len;
  }
  if (plan.drop_layers || o.search_widths) {
    if (plan.samples == 0) plan.samples = 32;
    if (plan.seq_len == 0) plan.seq_len = 256;
  }
  if (plan.samples > 0 && o.calib.empty()) {
    return fail(ErrorCode::kInvalid, "{} learns from text: give --calib FILE (text, or jsonl with \"text\")",
                plan.drop_layers ? "dropping layers" : o.method);
  }
  if (plan.seq_len == 1) return fail(ErrorCode::kInvalid, "--seq-len is 1, a loss needs at least 2 tokens");
  const uint64_t window = checkpoint.config.sliding_window;
  if (window > 0 && static_cast<uint64_t>(plan.seq_len) > window) {
    return fail(ErrorCode::kUnsupported, "--seq-len {} is longer than the model's sliding window of {}", plan.seq_len, window);
  }
  return plan;
}

/// The shape of every layer if all goes by the ratio, for what must be known before work starts.
std::vector<ChangedLayer> expected_layers(const PruneOptions& o, const Plan& plan, const models::Hparams& h) {
  std::vector<ChangedLayer> layers = unchanged_layers(h);
  for (int i = plan.first_layer; i <= plan.last_layer; ++i) {
    LayerShape& shape = layers[static_cast<size_t>(i)].shape;
    for (const Target* target : plan.targets) {
      const int64_t n = target->count(shape);
      // A search can end with any widths: two different ones stand for them.
      const int64_t kept = kept_units(n, o.ratio, multiple_of(o, *target));
      const int64_t odd_one = o.search_widths && i == plan.first_layer && kept < n ? n : kept;
      if (n > 0) shape = target->shape(shape, static_cast<uint32_t>(odd_one));
    }
  }
  return layers;
}

/// Refuses what could not become a GGUF that others load, with the way out.
Status check_expressible(const PruneOptions& o, const Plan& plan, const convert::OpenedCheckpoint& checkpoint) {
  ChangedModel model;
  model.layers = expected_layers(o, plan, checkpoint.config.hparams);
  for (const Target* target : plan.targets) {
    model.attention_bias |= plan.method->adds_bias && target->output == Role::kAttnOutput;
    model.mlp_bias |= plan.method->adds_bias && target->output == Role::kFfnDown;
  }
  const auto parsed = models::parse_model_config(changed_config(checkpoint.config_json, *checkpoint.config.architecture, model.hparams(checkpoint.config.hparams)));
  if (parsed) return {};
  return fail(ErrorCode::kUnsupported, "{}; prune all layers to one width instead (--layers 0-{}{})", parsed.error().message,
              checkpoint.config.hparams.n_layer - 1, o.search_widths ? ", --widths uniform" : "");
}

/// Multiply-adds, those in double precision twice, of a layer and of the head for a token given; `checked` tokens' predictions are
/// compared at the end.
double estimated_work(const Plan& plan, Evidence evidence, const models::Hparams& h, double layer, double head, double checked) {
  const double tokens = static_cast<double>(plan.samples * plan.seq_len), n_layer = h.n_layer;
  const double walked = plan.last_layer + 1, cut = plan.last_layer - plan.first_layer + 1;
  double work = checked * (n_layer * layer + head);
  if (evidence == Evidence::kGradients) {
    // Forward, and on the way back forward again and two products for each of the forward ones; the head's gradient.
    work += tokens * (layer * (n_layer + 3 * (n_layer - plan.first_layer)) + 3 * head);
  } else if (evidence == Evidence::kMoments) {
    work += tokens * layer * (walked + cut);
  } else if (evidence == Evidence::kGram) {
    // The dense model goes along. Half of X'X and all of X'Y; then an inverse, the removals and three solutions in double precision.
    const double n = std::max<double>(h.max_n_ff(), static_cast<double>(h.max_n_head()) * h.head_dim), e = h.n_embd;
    work += tokens * layer * (2 * walked + cut) + cut * (tokens * (n * n / 2 + n * e) + 2 * (n * n * n + 3 * n * n * e));
  }
  return work;
}

/// Decides what stays in memory, or refuses with the numbers.
Status plan_memory(const PruneOptions& o, const BlockLoader& loader, const std::string& source, Plan& plan) {
  const models::Hparams& h = loader.hparams();
  const uint64_t item = c10::elementSize(plan.compute.dtype), wide = c10::elementSize(plan.compute.wide());
  const Evidence evidence = plan.method->evidence(o.settings);
  const uint64_t block = loader.largest_block_bytes(), parameters = block / item;
  const uint64_t columns = std::max<uint64_t>(h.max_n_ff(), uint64_t{h.max_n_head()} * h.head_dim);
  uint64_t work = block + parameters * wide / 2;
  if (evidence == Evidence::kGradients) {
    const bool fisher = plan.method->per_sample_gradients != nullptr && plan.method->per_sample_gradients(o.settings);
    work = block * 2 + parameters * wide * (fisher ? 4 : 3);
  } else if (evidence == Evidence::kGram) {
    work = block + columns * columns * (wide + 8) + columns * h.n_embd * (8 * 3 + 2 * wide);
  }
  const uint64_t head = plan.samples > 0 ? loader.head_bytes() + (uint64_t{256} << 20) : 0;
  const uint64_t tokens = static_cast<uint64_t>(o.micro_batch * std::max<int64_t>(1, plan.seq_len));
  const uint64_t batch = tokens * (columns * 6 + h.n_embd * 10) * wide + tokens * static_cast<uint64_t>(plan.seq_len) * h.max_n_head() * wide * 3;
  const uint64_t needed = kOverheadBytes + std::max(work, head) + batch;
  const uint64_t limit = o.ram > 0 ? o.ram : available_memory();
  if (needed > limit) {
    return fail(ErrorCode::kTooLarge,
                "{}: {} on this model takes about {} (a block {}, the method's work on it {}, the head {}, a micro-batch of {} tokens {}), "
                "{} is {}; a smaller --micro-batch or --seq-len, or --method magnitude, takes less",
                source, o.method, format_bytes(needed), format_bytes(block), format_bytes(work - block), format_bytes(head), tokens,
                format_bytes(batch), o.ram > 0 ? "--ram" : "the free memory", format_bytes(limit));
  }
  const uint64_t left = limit - needed;
  plan.resident = loader.total_bytes() < left / 2;
  plan.store_bytes = plan.resident ? left - loader.total_bytes() : left;

  const auto all_tokens = static_cast<uint64_t>(plan.samples * plan.seq_len);
  const uint64_t boundary = all_tokens * h.n_embd * wide;
  // A backward pass needs what went into each of its blocks; the other methods only what goes into the next one.
  const uint64_t activations = boundary * (evidence == Evidence::kGradients ? h.n_layer - static_cast<uint32_t>(plan.first_layer) + 1 : 2);
  const uint64_t saved = evidence == Evidence::kGram ? loader.total_bytes() / 4 : boundary;
  plan.estimate.memory_bytes = needed + std::min(plan.store_bytes, activations) + (plan.resident ? loader.total_bytes() : 0);
  const convert::OpenedCheckpoint& checkpoint = loader.checkpoint();
  ChangedModel after;
  after.layers = expected_layers(o, plan, h);
  const models::Architecture& architecture = *checkpoint.config.architecture;
  const models::Hparams result = after.hparams(h);
  plan.estimate.layers = result.layers;
  plan.estimate.output_bytes = static_cast<uint64_t>(
      static_cast<double>(checkpoint.weights->file_bytes()) *
      static_cast<double>(models::count_parameters(architecture, result)) / static_cast<double>(models::count_parameters(architecture, h)));
  plan.estimate.working_bytes = saved + (activations > plan.store_bytes ? activations - plan.store_bytes : 0);
  const double checked = o.check ? 2.0 * static_cast<double>(kCheckSamples * plan.seq_len) : 0;
  plan.estimate.multiply_adds = estimated_work(plan, evidence, h, block_multiply_adds(loader, plan.seq_len) / h.n_layer, head_multiply_adds(loader), checked);
  return {};
}

/// What is learned from, and other text to measure on; ids in micro-batches.
struct Text {
  std::vector<at::Tensor> calibration, check;
  int64_t n_samples = 0;   ///< of `calibration`, before it is shared out
};

Expected<Text> draw_text(const PruneOptions& o, const Plan& plan, const convert::OpenedCheckpoint& checkpoint, Progress& progress) {
  Text text;
  if (o.calib.empty()) return text;
  SHOEHORN_TRY(const auto tokenizer, directory_tokenizer(checkpoint.directory, checkpoint.config.hparams.n_vocab));
  const int64_t length = plan.seq_len > 0 ? plan.seq_len : 256;
  if (plan.samples > 0) {
    SHOEHORN_TRY(const at::Tensor ids, draw_samples(o.calib, tokenizer, {plan.samples, length, o.seed, 0}));
    const bool one_by_one = plan.method->per_sample_gradients != nullptr && plan.method->per_sample_gradients(o.settings);
    text.calibration = split_batches(ids, one_by_one ? 1 : o.micro_batch);
    text.n_samples = plan.samples;
  }
  if (!o.check && !o.search_widths) return text;
  if (const auto rest = draw_samples(o.calib, tokenizer, {kCheckSamples, length, o.seed, plan.samples})) {
    text.check = split_batches(*rest, o.micro_batch);
  } else {
    progress.note("no text is left to measure the result on; a longer --calib has it");
  }
  return text;
}

class Pruner {
 public:
  Pruner(const PruneOptions& options, Plan plan, const Text& text, BlockLoader& loader, WorkDirectory& work, Progress& progress,
         const Peers& peers)
      : o_(options), plan_(std::move(plan)), batches_(peers.mine(text.calibration)), check_(peers.mine(text.check)),
        n_samples_(text.n_samples), has_check_(!text.check.empty()), loader_(loader), work_(work), progress_(progress), model_(loader.hparams(), plan_.compute),
        store_(work.path(), plan_.store_bytes), stream_(loader, model_, store_, progress, peers) {
    result_.layers = unchanged_layers(loader.hparams());
  }

  Expected<PruneReport> run() {
    const auto start = std::chrono::steady_clock::now();
    if (plan_.drop_layers) SHOEHORN_RETURN_IF_ERROR(drop_layers());
    if (!plan_.targets.empty()) SHOEHORN_RETURN_IF_ERROR(prune_units());
    PruneReport report = describe();
    if (o_.check && has_check_) SHOEHORN_RETURN_IF_ERROR(check(report));
    if (stream_.peers().first()) {
      SHOEHORN_RETURN_IF_ERROR(write_model_directory(loader_, result_, work_.path(), progress_));
    }
    SHOEHORN_RETURN_IF_ERROR(work_.finish(report.json()));
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
  }

 private:
  bool selected(int layer) const { return layer >= plan_.first_layer && layer <= plan_.last_layer && !dropped_.contains(layer); }
  int64_t units_to_keep(const Target& target, int layer) const {
    const auto searched = widths_.find(layer);
    if (searched != widths_.end()) return searched->second;
    return kept_units(target.count(result_.layers[static_cast<size_t>(layer)].shape), o_.ratio, multiple_of(o_, target));
  }

  /// Takes out the layers whose absence changes the predictions least: block influence (1 - cosine of input and output, Men et al.
  /// 2024, arXiv:2403.03853) proposes, the measured KL divergence decides.
  Status drop_layers() {
    constexpr size_t kProposals = 4;
    SHOEHORN_TRY(const auto saved, work_.load("dropped"));
    if (saved) {
      for (const Json& layer : saved->facts["layers"]) drop(layer.get<int>());
      return {};
    }
    const int n_candidates = plan_.last_layer - plan_.first_layer + 1;
    const int n = static_cast<int>(std::lround(n_candidates * o_.ratio));
    std::map<int, double> influence;
    progress_.begin("block influence", loader_.hparams().n_layer);
    SHOEHORN_TRY(Boundary current, stream_.embed(batches_));
    for (int layer = 0; layer <= plan_.last_layer; ++layer) {
      SHOEHORN_TRY(Boundary next, stream_.forward(static_cast<size_t>(layer), current, true));
      double sum = 0;
      int64_t count = 0;
      for (size_t m = 0; m < current.size(); ++m) {
        SHOEHORN_TRY(const at::Tensor before, stream_.get(current[m]));
        SHOEHORN_TRY(const at::Tensor after, stream_.get(next[m]));
        const at::Tensor cosine = at::cosine_similarity(before, after, -1).to(at::kDouble);
        sum += (1 - cosine).sum().item<double>();
        count += cosine.numel();
      }
      SHOEHORN_RETURN_IF_ERROR(stream_.peers().sum(sum));
      SHOEHORN_RETURN_IF_ERROR(stream_.peers().sum(count));
      // A jagged GGUF needs attention in layer 0.
      if (layer >= plan_.first_layer && layer > 0) influence[layer] = sum / static_cast<double>(count);
      stream_.drop(current);
      current = std::move(next);
    }
    stream_.drop(current);
    progress_.end();
    for (int k = 0; k < n && !influence.empty(); ++k) {
      std::vector<std::pair<double, int>> order;
      for (const auto& [layer, value] : influence) order.emplace_back(value, layer);
      std::sort(order.begin(), order.end());
      order.resize(std::min(order.size(), kProposals));
      std::vector<Changes> proposals;
      for (const auto& [value, layer] : order) {
        Changes changes;
        for (const int gone : dropped_) changes[gone].dropped = true;
        changes[layer].dropped = true;
        proposals.push_back(std::move(changes));
      }
      progress_.begin(fmt::format("layer {} of {} to drop", k + 1, n), loader_.hparams().n_layer);
      SHOEHORN_TRY(const auto measured, measure(stream_, proposals, batches_));
      progress_.end();
      size_t best = 0;
      for (size_t i = 1; i < measured.size(); ++i) best = measured[i].kl < measured[best].kl ? i : best;
      progress_.note(fmt::format("layer {} goes: KL {:.4f}", order[best].second, measured[best].kl));
      drop(order[best].second);
      influence.erase(order[best].second);
    }
    return work_.save("dropped", {{}, {{"layers", dropped_}}});
  }

  void drop(int layer) {
    dropped_.insert(layer);
    result_.layers[static_cast<size_t>(layer)].dropped = true;
  }

  Status prune_units() {
    const Evidence evidence = plan_.method->evidence(o_.settings);
    if (evidence == Evidence::kGradients) {
      const GradientTask task{plan_.method, &o_.settings, plan_.targets, plan_.first_layer, plan_.last_layer, &dropped_, batches_, n_samples_};
      SHOEHORN_TRY(scores_, gradient_scores(stream_, task, work_));
    }
    for (const Target* target : plan_.targets) {
      result_.attention_bias |= plan_.method->adds_bias && target->output == Role::kAttnOutput;
      result_.mlp_bias |= plan_.method->adds_bias && target->output == Role::kFfnDown;
    }
    if (!o_.search_widths) return cut_layers();

    const Target& target = *plan_.targets.front();
    SHOEHORN_TRY(const auto found, work_.load("widths"));
    if (found) {
      for (const auto& [layer, width] : found->facts["widths"].items()) widths_[std::stoi(layer)] = width.get<int64_t>();
      generation_ = found->facts.at("generation").get<std::string>();
      return cut_layers();
    }
    // Uniform widths first: the search must beat them.
    SHOEHORN_RETURN_IF_ERROR(cut_layers());
    const std::vector<ChangedLayer> uniform = result_.layers;
    SHOEHORN_TRY(const auto widths, search());
    widths_ = widths;
    reset();
    generation_ = "searched-";
    SHOEHORN_RETURN_IF_ERROR(cut_layers());
    const auto& judge = has_check_ ? check_ : batches_;
    progress_.begin("uniform and searched widths", loader_.hparams().n_layer);
    SHOEHORN_TRY(const auto measured, measure(stream_, {changes(uniform), changes(result_.layers)}, judge));
    progress_.end();
    const bool better = measured[1].kl < measured[0].kl;
    progress_.note(fmt::format("searched widths: KL {:.4f}, uniform {:.4f}{}", measured[1].kl, measured[0].kl,
                               better ? "" : "; uniform widths are kept"));
    if (!better) {
      result_.layers = uniform;
      widths_.clear();
      for (int layer = plan_.first_layer; layer <= plan_.last_layer; ++layer) {
        widths_[layer] = target.count(uniform[static_cast<size_t>(layer)].shape);
      }
    }
    Json by_layer = Json::object();
    for (const auto& [layer, width] : widths_) by_layer[std::to_string(layer)] = width;
    return work_.save("widths", {{}, {{"widths", by_layer}, {"generation", better ? generation_ : ""}}});
  }

  void reset() {
    for (size_t i = 0; i < result_.layers.size(); ++i) {
      const bool gone = result_.layers[i].dropped;
      result_.layers[i] = {};
      result_.layers[i].shape = loader_.hparams().layers[i];
      result_.layers[i].dropped = gone;
    }
  }

  static Changes changes(const std::vector<ChangedLayer>& layers) {
    Changes out;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].dropped || !layers[i].kept_ff.empty() || layers[i].kept_q.defined()) out[static_cast<int>(i)] = layers[i];
    }
    return out;
  }

  bool streams() const {
    const Evidence evidence = plan_.method->evidence(o_.settings);
    return evidence == Evidence::kMoments || evidence == Evidence::kGram;
  }

  /// The dense model goes along, for what its residual stream holds.
  bool fits_stream() const { return plan_.method->evidence(o_.settings) == Evidence::kGram && o_.settings.fit == "stream"; }

  /// Walks through the layers in order and cuts those that are selected, each on the already cut ones before.
  Status cut_layers() {
    const bool stream = streams();
    Boundary current;
    if (stream) {
      SHOEHORN_TRY(current, stream_.embed(batches_));
    }
    if (fits_stream()) {
      SHOEHORN_TRY(dense_, stream_.embed(batches_));
    }
    dense_layers_ = 0;
    progress_.begin("pruning", static_cast<uint64_t>(plan_.last_layer + 1) * (fits_stream() ? 2 : 1));
    for (int layer = stream ? 0 : plan_.first_layer; layer <= plan_.last_layer; ++layer) {
      TensorSet weights = loader_.block(static_cast<size_t>(layer));
      const bool there = !dropped_.contains(layer);
      if (selected(layer)) {
        SHOEHORN_TRY(weights, cut_layer(layer, weights, current));
      }
      if (stream && there && layer < plan_.last_layer) {
        SHOEHORN_TRY(current, stream_.forward(static_cast<size_t>(layer), weights, current, false,
                                              [&](const TensorSet& w, const at::Tensor& x, size_t) { return model_.block(w, x); }));
      } else {
        progress_.advance(1);
      }
      if (fits_stream() && layer < plan_.last_layer && dense_layers_ == layer) {
        SHOEHORN_TRY(dense_, stream_.forward(static_cast<size_t>(layer), dense_, false));
        ++dense_layers_;
      }
    }
    stream_.drop(dense_);
    stream_.drop(current);
    progress_.end();
    return {};
  }

  /// Cuts one layer, or takes the cut from the saved state; its weights afterwards.
  Expected<TensorSet> cut_layer(int layer, const TensorSet& stored, Boundary& input) {
    const std::string name = fmt::format("{}layer-{:05}", generation_, layer);
    ChangedLayer& change = result_.layers[static_cast<size_t>(layer)];
    SHOEHORN_TRY(const auto saved, work_.load(name));
    if (saved) {
      restore(*saved, change);
      return apply(change, loader_, stored);
    }
    Saved state;
    TensorSet weights = stored;
    for (const Target* target : plan_.targets) {
      if (target->count(change.shape) == 0) continue;
      const int64_t keep = units_to_keep(*target, layer);
      Boundary middle;  // the dense model's residual stream between attention and MLP
      const Boundary* wanted = nullptr;
      const std::vector<int> experts = owners(*target, loader_.hparams());
      // What an expert lacks of the dense model's residual stream is not told apart from what the others lack: each is fitted to its own weights.
      if (fits_stream() && experts.front() < 0) {
        const bool whole = target->output == Role::kFfnDown;
        SHOEHORN_TRY(Boundary after, forward_through(stream_, layer, stored, *target, dense_, !whole));
        (whole ? dense_ : middle) = std::move(after);
        dense_layers_ += whole ? 1 : 0;
        wanted = whole ? &dense_ : &middle;
      }
      SHOEHORN_TRY(const auto decisions, choose(*target, layer, change.shape, weights, input, keep, wanted));
      stream_.drop(middle);
      KeptUnits units;
      for (const auto& [expert, decision] : decisions) {
        units[expert] = decision.units;
        state.tensors[owned_name(*target, expert)] = at::tensor(decision.units, at::kLong);
        take_replaced(decision, layer, expert, change, state);
      }
      keep_units(*target, units, loader_.hparams().head_dim, change);
      weights = apply(change, loader_, stored);
    }
    SHOEHORN_RETURN_IF_ERROR(work_.save(name, state));
    return weights;
  }

  /// Replaced weights are rounded to what the output holds before anything is computed with them.
  void take_replaced(const Decision& decision, int layer, int expert, ChangedLayer& change, Saved& state) const {
    for (const models::TensorRule& rule : loader_.architecture().tensors) {
      const at::Tensor& replaced = decision.replaced[rule.role];
      if (!replaced.defined() || rule.per_expert != (expert >= 0)) continue;
      const models::WeightId id(rule.role, expert);
      const auto* same = loader_.find(layer, id);
      const auto* beside = same != nullptr ? same : loader_.find(layer, Role::kFfnDown) != nullptr ? loader_.find(layer, Role::kFfnDown)
                                                                                                   : loader_.find(layer, Role::kAttnOutput);
      change.replaced[id] = replaced.to(at::kCPU).to(torch_dtype(beside->dtype));
      state.tensors[replaced_name(rule, expert)] = change.replaced[id];
    }
  }

  static std::string replaced_name(const models::TensorRule& rule, int expert) {
    return "replaced " + std::string(rule.hf_name) + (expert < 0 ? "" : fmt::format(" {}", expert));
  }

  void restore(const Saved& saved, ChangedLayer& change) const {
    for (const Target* target : plan_.targets) {
      KeptUnits kept;
      for (const int expert : owners(*target, loader_.hparams())) {
        const auto units = saved.tensors.find(owned_name(*target, expert));
        if (units == saved.tensors.end()) continue;
        const int64_t* first = units->second.data_ptr<int64_t>();
        kept[expert] = {first, first + units->second.numel()};
      }
      if (!kept.empty()) keep_units(*target, kept, loader_.hparams().head_dim, change);
    }
    for (const models::TensorRule& rule : loader_.architecture().tensors) {
      for (const models::WeightId id : models::weight_ids(rule, loader_.hparams())) {
        const auto replaced = saved.tensors.find(replaced_name(rule, id.expert));
        if (replaced != saved.tensors.end()) change.replaced[id] = replaced->second;
      }
    }
  }

  /// What the method keeps of one target, by expert, when it is asked for `keep` units of each.
  Expected<std::map<int, Decision>> choose(const Target& target, int layer, const LayerShape& shape, const TensorSet& weights, const Boundary& input,
                            int64_t keep, const Boundary* wanted) {
    at::NoGradGuard no_gradient;
    std::map<int, Decision> decisions;
    const bool all = owners(target, loader_.hparams()).front() < 0;
    const auto n_columns = static_cast<uint64_t>(weights[{target.output, all ? -1 : 0}].size(1));
    const auto groups = all ? std::vector<std::vector<int>>{{-1}} : expert_groups(loader_.hparams(), gram_bytes(n_columns));
    for (const std::vector<int>& experts : groups) {
      std::vector<InputStatistics> inputs(experts.size());
      if (streams()) {
        SHOEHORN_TRY(inputs, gather_inputs(stream_, weights, input, target, experts, wants_gram(), wanted));
      }
      for (size_t i = 0; i < experts.size(); ++i) {
        auto decision = choose_of(target, layer, experts[i], evidence_of(target, layer, shape, experts[i], weights, std::move(inputs[i])), keep);
        if (!decision) return annotate(decision.error(), fmt::format("layer {}, {}", layer, owned_name(target, experts[i])));
        decisions[experts[i]] = std::move(*decision);
      }
    }
    return decisions;
  }

  bool wants_gram() const { return plan_.method->evidence(o_.settings) == Evidence::kGram; }
  uint64_t gram_bytes(uint64_t n_columns) const { return wants_gram() ? n_columns * n_columns * c10::elementSize(plan_.compute.wide()) : 0; }

  Expected<Decision> choose_of(const Target& target, int layer, int expert, const LayerEvidence& evidence, int64_t keep) const {
    const auto scores = scores_.find({layer, target.name, expert});
    if (scores == scores_.end()) return decide(*plan_.method, evidence, o_.settings, keep);
    Decision decision;
    SHOEHORN_TRY(decision.units, highest(scores->second, keep));
    return decision;
  }

  /// Without weights where there are scores already.
  LayerEvidence evidence_of(const Target& target, int layer, const LayerShape& shape, int expert, const TensorSet& weights, InputStatistics inputs) const {
    LayerEvidence evidence{&target, &loader_.architecture(), shape, loader_.hparams().head_dim, expert, {}, {}, {}, std::move(inputs)};
    if (scores_.contains({layer, target.name, expert})) return evidence;
    const bool only_output = streams();
    for (const Role role : cut_roles(loader_.architecture(), shape, evidence.head_dim, target, expert >= 0)) {
      const at::Tensor& tensor = weights[{role, expert}];
      if (tensor.defined() && (!only_output || role == target.output)) evidence.weights[role] = tensor.to(plan_.compute.wide());
    }
    const Role bias = bias_of(target.output);
    if (const at::Tensor& tensor = weights[{bias, expert}]; tensor.defined()) evidence.weights[bias] = tensor.to(plan_.compute.wide());
    return evidence;
  }

  /// Widths per layer of the same total as the uniform ones: each layer's cost of each width is measured alone, on the model that is
  /// otherwise whole, all in one pass; the total is minimized exactly.
  Expected<std::map<int, int64_t>> search() {
    const Target& target = *plan_.targets.front();
    const int64_t step = multiple_of(o_, target);
    const auto& text = has_check_ ? check_ : batches_;
    Branches branches(stream_);
    std::vector<WidthCost> costs;
    int64_t total = 0;
    progress_.begin("measuring widths", loader_.hparams().n_layer);
    SHOEHORN_TRY(Boundary statistics, stream_.embed(streams() ? batches_ : std::vector<at::Tensor>{}));
    SHOEHORN_TRY(Boundary dense, stream_.embed(text));
    for (int layer = 0; layer < static_cast<int>(loader_.hparams().n_layer); ++layer) {
      const TensorSet weights = loader_.block(static_cast<size_t>(layer));
      const LayerShape shape = loader_.hparams().layers[static_cast<size_t>(layer)];
      const int64_t n = target.count(shape);
      SHOEHORN_RETURN_IF_ERROR(branches.pass(weights));
      if (selected(layer) && n > 0) {
        const int64_t uniform = kept_units(n, o_.ratio, step);
        total += uniform;
        costs.push_back({layer, n, -1, 0});
        // Only models without experts can have widths of all kinds.
        std::vector<InputStatistics> inputs(1);
        if (streams()) {
          SHOEHORN_TRY(inputs, gather_inputs(stream_, weights, statistics, target, {-1}, wants_gram(), nullptr));
        }
        const LayerEvidence evidence = evidence_of(target, layer, shape, -1, weights, std::move(inputs.front()));
        const int64_t least = std::max(step, kept_units(n, std::min(0.95, 2.5 * o_.ratio), step));
        for (int64_t width = least; width < n; width += step) {
          SHOEHORN_TRY(const Decision decision, choose_of(target, layer, -1, evidence, width));
          ChangedLayer change;
          change.shape = shape;
          Saved unused;
          keep_units(target, {{-1, decision.units}}, loader_.hparams().head_dim, change);
          take_replaced(decision, layer, -1, change, unused);
          SHOEHORN_RETURN_IF_ERROR(branches.start(weights, dense, change));
          costs.push_back({layer, width, static_cast<int>(branches.size()) - 1, 0});
        }
      }
      const auto plain = [&](const TensorSet& w, const at::Tensor& x, size_t) { return model_.block(w, x); };
      if (streams()) {
        SHOEHORN_TRY(statistics, stream_.forward(static_cast<size_t>(layer), weights, statistics, false, plain));
      }
      SHOEHORN_TRY(dense, stream_.forward(static_cast<size_t>(layer), weights, dense, false, plain));
    }
    stream_.drop(statistics);
    SHOEHORN_TRY(const auto measured, branches.finish(dense, text));
    progress_.end();
    for (WidthCost& cost : costs) cost.cost = cost.branch < 0 ? 0 : measured[static_cast<size_t>(cost.branch)].kl;
    return cheapest_widths(costs, total);
  }

  PruneReport describe() const {
    PruneReport report;
    const models::Hparams& h = loader_.hparams();
    for (size_t i = 0; i < result_.layers.size(); ++i) {
      const ChangedLayer& layer = result_.layers[i];
      if (layer.dropped || !(layer.shape == h.layers[i])) {
        report.layers.push_back({static_cast<int>(i), layer.dropped, h.layers[i], layer.shape});
      }
    }
    report.parameters_before = models::count_parameters(loader_.architecture(), h);
    report.parameters_after = models::count_parameters(loader_.architecture(), result_.hparams(h));
    return report;
  }

  Status check(PruneReport& report) {
    progress_.begin("measuring the result", loader_.hparams().n_layer);
    Divergence before;
    SHOEHORN_TRY(const auto after, measure(stream_, {changes(result_.layers)}, check_, &before));
    progress_.end();
    report.has_check = true;
    report.check_tokens = after[0].tokens;
    report.kl = after[0].kl;
    report.kl_err = after[0].kl_err;
    report.nll_before = before.nll;
    report.nll_after = after[0].nll;
    return {};
  }

  const PruneOptions& o_;
  Plan plan_;
  std::vector<at::Tensor> batches_, check_;   // this process's
  int64_t n_samples_;
  bool has_check_;
  BlockLoader& loader_;
  WorkDirectory& work_;
  Progress& progress_;
  TorchModel model_;
  ActivationStore store_;
  BlockStream stream_;
  std::set<int> dropped_;
  Boundary dense_;         // of the unchanged model, where it goes along
  int dense_layers_ = 0;   // that it has been through
  GradientScores scores_;
  std::map<int, int64_t> widths_;
  std::string generation_;   // before the names of layers' states: those of uniform widths stay while others are tried
  ChangedModel result_;
};

/// What a saved state belongs to: the source's files and every option that changes the result.
Json fingerprint(const PruneOptions& o, const Plan& plan, const convert::OpenedCheckpoint& checkpoint) {
  Json targets = Json::array();
  for (const std::string& target : o.targets) targets.push_back(target);
  return {{"program", "shoehorn prune 1"},
          {"source", source_fingerprint(checkpoint)},
          {"method", o.method},
          {"settings", {o.settings.norm, o.settings.taylor, o.settings.rounds, o.settings.damping, o.settings.choice_damping, o.settings.fit}},
          {"targets", targets},
          {"layers", {plan.first_layer, plan.last_layer}},
          {"ratio", o.ratio},
          {"multiple_of", o.multiple_of},
          {"widths", o.search_widths},
          {"check", o.check},
          {"calib", file_fingerprint(o.calib)},
          {"samples", {plan.samples, plan.seq_len, o.micro_batch, o.seed}},
          {"compute", {std::string(c10::toString(plan.compute.dtype)), o.device}},
          {"threads", at::get_num_threads()}};
}

}  // namespace

Json PruneReport::json() const {
  Json changed = Json::array();
  for (const PrunedLayer& l : layers) {
    Json entry = {{"layer", l.layer}, {"dropped", l.dropped}};
    if (!l.dropped) {
      entry["n_ff"] = {l.before.n_ff, l.after.n_ff};
      entry["n_head"] = {l.before.n_head, l.after.n_head};
      entry["n_head_kv"] = {l.before.n_head_kv, l.after.n_head_kv};
    }
    changed.push_back(std::move(entry));
  }
  Json out = {{"parameters_before", parameters_before}, {"parameters", parameters_after}, {"layers", std::move(changed)}};
  if (has_check) {
    out["check"] = {{"tokens", check_tokens}, {"kld_mean", kl},          {"kld_err", kl_err},
                    {"nll_before", nll_before}, {"nll_after", nll_after}};
  }
  return out;
}

PruneReport PruneReport::parse(const Json& json) {
  PruneReport report;
  report.parameters_before = json.at("parameters_before");
  report.parameters_after = json.at("parameters");
  for (const Json& entry : json.at("layers")) {
    PrunedLayer l;
    l.layer = entry.at("layer");
    l.dropped = entry.at("dropped");
    if (!l.dropped) {
      l.before = {entry.at("n_head").at(0), entry.at("n_head_kv").at(0), entry.at("n_ff").at(0)};
      l.after = {entry.at("n_head").at(1), entry.at("n_head_kv").at(1), entry.at("n_ff").at(1)};
    }
    report.layers.push_back(l);
  }
  if (const auto check = json.find("check"); check != json.end()) {
    report.has_check = true;
    report.check_tokens = check->at("tokens");
    report.kl = check->at("kld_mean");
    report.kl_err = check->at("kld_err");
    report.nll_before = check->at("nll_before");
    report.nll_after = check->at("nll_after");
  }
  return report;
}

namespace {

struct Prepared {
  convert::OpenedCheckpoint checkpoint;
  Plan plan;
};

Expected<Prepared> prepare(const PruneOptions& options, Progress& progress) {
  set_torch_threads(options.n_threads);
  SHOEHORN_TRY(auto checkpoint, convert::open_checkpoint(options.model, progress));
  SHOEHORN_TRY(Plan plan, make_plan(options, checkpoint));
  SHOEHORN_RETURN_IF_ERROR(check_expressible(options, plan, checkpoint));
  const BlockLoader measure_only(checkpoint, plan.compute, false);
  SHOEHORN_RETURN_IF_ERROR(plan_memory(options, measure_only, options.model, plan));
  return Prepared{std::move(checkpoint), std::move(plan)};
}

}  // namespace

Expected<Json> estimate_prune(const PruneOptions& options, Progress& progress) {
  return guarded("prune", [&]() -> Expected<Json> {
    SHOEHORN_TRY(const Prepared prepared, prepare(options, progress));
    return prepared.plan.estimate.json(prepared.plan.compute);
  });
}

Expected<PruneReport> prune(const PruneOptions& options, Progress& progress) {
  return guarded("prune", [&]() -> Expected<PruneReport> {
    SHOEHORN_TRY(auto prepared, prepare(options, progress));
    auto& [checkpoint, plan] = prepared;
    SHOEHORN_TRY(const std::string estimate, describe(plan.estimate, plan.compute, options.out));
    progress.note("this takes " + estimate);
    if (plan.enough_tokens > plan.samples * plan.seq_len) {
      progress.note(fmt::format("{} samples of {} tokens are few for {}: the widest layer asks for at least {} tokens (--samples {})", plan.samples,
                                plan.seq_len, options.method, plan.enough_tokens, (plan.enough_tokens + plan.seq_len - 1) / plan.seq_len));
    }
    SHOEHORN_TRY(const Text text, draw_text(options, plan, checkpoint, progress));
    SHOEHORN_TRY(const auto peers, Peers::join(plan.compute.device));
    SHOEHORN_TRY(auto work, WorkDirectory::open(options.out, fingerprint(options, plan, checkpoint), options.resume, peers));
    if (work.complete()) {
      progress.note(options.out + " is complete");
      return PruneReport::parse(*work.complete());
    }
    BlockLoader loader(std::move(checkpoint), plan.compute, plan.resident);
    return Pruner(options, std::move(plan), text, loader, work, progress, peers).run();
  });
}

}  // namespace shoehorn::compress
