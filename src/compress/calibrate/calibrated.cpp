#include "compress/calibrate/calibrated.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "base/memory.h"
#include "compress/calibrate/allocation.h"
#include "compress/calibrate/sensitivity.h"
#include "compress/calibration_text.h"
#include "compress/estimate.h"
#include "compress/experts.h"

namespace shoehorn::compress {
namespace {

using Types = std::vector<quant::Type>;

/// Sequences, not among those calibrated on, that a result is measured on.
constexpr int64_t kCheckSamples = 8;
/// A tensor's error may grow by this factor from one round to the next: further away an estimate is not worth much.
constexpr double kMaxGrowth = 8;
/// No matrix costs less than this share of the mean: below it a measurement is noise.
constexpr double kLeastShare = 0.02;
/// Multiply-adds of a product that take as long as a weight's part in one pass over its panel (matrix_quantizer.h).
constexpr double kPassOverWeight = 3000;

struct Text {
  at::Tensor calibration, check;  ///< ids [n_samples, n_tokens]
};

Expected<Text> draw_text(const CalibratedOptions& o, const convert::ModelSource& source, Progress& progress) {
  if (o.calib.empty()) {
    return fail(ErrorCode::kInvalid, "{} learns from text: give --calib FILE (text, or jsonl with \"text\")",
                o.target_bytes > 0 ? "choosing types" : o.method);
  }
  const models::Hparams& h = source.hparams();
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_gguf(source.metadata(), source.path()));
  SHOEHORN_TRY(const auto tokenizer, tokenizer::Tokenizer::create(std::move(vocab)));
  const int64_t most = std::max<int64_t>(1, kMaxCalibrationTokens / o.seq_len);
  const SampleOptions check{kCheckSamples, o.seq_len, o.seed, 0, false};
  Text text;
  SHOEHORN_TRY(text.check, draw_samples(o.calib, tokenizer, check));
  SHOEHORN_TRY(text.calibration,
               draw_samples(o.calib, tokenizer,
                            {o.samples > 0 ? o.samples : most, o.seq_len, o.seed, kCheckSamples, o.samples == 0}));
  const int64_t widest = std::max<int64_t>(h.max_n_ff(), int64_t{h.max_n_head()} * h.head_dim);
  // An expert sees a share of them.
  const int64_t enough = 4 * widest * (h.n_expert > 0 ? int64_t{h.n_expert} / h.n_expert_used : 1);
  if (text.calibration.numel() < enough) {
    progress.note(fmt::format(
        "{} tokens are few: the widest input has {} columns, whose second moments ask for {} tokens or more",
        text.calibration.numel(), widest, enough));
  }
  return text;
}

struct Plan {
  uint64_t store_bytes = 0;  ///< memory for activations
  Estimate estimate;
};

/// What it will take, or a refusal with the numbers.
Expected<Plan> make_plan(const CalibratedOptions& o, const BlockLoader& loader, const convert::ModelSource& source,
                         const Types& types, int64_t n_tokens) {
  const models::Hparams& h = loader.hparams();
  const uint64_t block = loader.largest_block_bytes();
  const uint64_t widest = std::max<uint64_t>(h.max_n_ff(), uint64_t{h.max_n_head()} * h.head_dim);
  // Those of many experts are in memory together (expert_groups).
  const uint64_t at_once = expert_groups(h, widest * widest * 4).front().size();
  const uint64_t moments = widest * widest * (4 + 8) * at_once, rows = kRowsAtOnce * widest * 4 * 6;
  // A matrix decoded and put in order, beside the block; awq keeps the block's scaled matrices, too.
  const uint64_t matrix = widest * h.n_embd * 4, beside = std::max(matrix * 2, o.method == "awq" ? block : 0);
  const uint64_t batch = static_cast<uint64_t>(o.micro_batch * o.seq_len) * (widest * 6 + uint64_t{h.n_embd} * 10) * 4;
  const uint64_t head = loader.head_bytes();
  uint64_t encoded = 0, largest = 0;
  double rounding = 0;
  const size_t embedding = source.find_rows(-1, models::Role::kTokenEmbd).index;
  for (size_t i = 0; i < types.size(); ++i) {
    const convert::SourceTensor& tensor = source.tensors()[i];
    const uint64_t bytes = tensor.n_rows() * quant::row_bytes(quant::format(types[i]), tensor.n_cols());
    encoded += bytes;
    largest = std::max(largest, bytes);
    // Rounded plainly: the embedding, what no grid describes.
    if (o.method != "gptq" || i == embedding || quant::format(types[i]).grid == nullptr) continue;
    const auto n = static_cast<double>(tensor.n_cols());
    rounding +=
        n * static_cast<double>(tensor.n_rows()) * (n * (0.5 + o.sweeps) + kPassOverWeight * (1 + o.sweeps));
  }
  // The embedding is looked up decoded; at the end two heads are compared.
  const bool choosing = o.target_bytes > 0;
  const uint64_t work = std::max(block + beside + moments + rows + largest, head + largest + (choosing ? head : 0));
  const uint64_t needed = kOverheadBytes + work + batch;
  const uint64_t limit = o.ram > 0 ? o.ram : available_memory();
  if (needed > limit) {
    return fail(
        ErrorCode::kTooLarge,
        "{}: {} on this model takes about {} (a block {} and {} beside it, second moments of {} columns {}, a micro-batch "
        "{}), {} is {}; a smaller --micro-batch or --seq-len takes less, --method rtn without --calib hardly any",
        o.model, o.method, format_bytes(needed), format_bytes(block), format_bytes(beside), widest, format_bytes(moments),
        format_bytes(batch), o.ram > 0 ? "--ram" : "the free memory", format_bytes(limit));
  }
  const uint64_t left = limit - needed;
  const uint64_t boundary = static_cast<uint64_t>(kCheckSamples * o.seq_len) * h.n_embd * 4;
  const uint64_t activations = std::max(static_cast<uint64_t>(n_tokens) * h.n_embd * 4 * 2,
                                        choosing ? boundary * source.tensors().size() : boundary * 3);
  const double rounds = choosing ? o.rounds : 1, tokens = static_cast<double>(n_tokens);
  Plan plan;
  plan.store_bytes = left;
  plan.estimate.memory_bytes = needed + std::min(left, activations);
  // Each round's blocks are kept until the file is whole.
  plan.estimate.working_bytes =
      static_cast<uint64_t>(rounds) * encoded + (activations > left ? activations - left : 0);
  // q, k, v, gate and up are computed twice: to know what the next projection reads, and to go on. Second moments are
  // half a product each.
  double once = tokens * 1.8 * block_multiply_adds(loader, o.seq_len) + rounding;
  for (const models::LayerShape& layer : h.layers) {
    const double n_ff = layer.n_ff, n_q = static_cast<double>(layer.n_head) * h.head_dim, n_embd = h.n_embd;
    for (const double n : {n_embd, n_q, n_embd, n_ff}) once += n * n * (tokens / 2 + n * 2);
  }
  const double checked = static_cast<double>(kCheckSamples * o.seq_len);
  const double models = choosing ? 3.5 * h.n_layer : 2;
  once += checked * models * (block_multiply_adds(loader, o.seq_len) + 2 * head_multiply_adds(loader));
  plan.estimate.multiply_adds = once * rounds;
  return plan;
}

/// What a saved state belongs to: the source's files and every option that changes the result.
Json fingerprint(const CalibratedOptions& o, const convert::OpenedCheckpoint& checkpoint, const Types& types,
                 const std::vector<bool>& pinned, const at::Tensor& ids, const Compute& compute) {
  Json ids_of_types = Json::array();
  for (const quant::Type type : types) ids_of_types.push_back(static_cast<uint32_t>(type));
  return {{"program", "shoehorn quantize 1"},
          {"source", source_fingerprint(checkpoint)},
          {"method", o.method},
          {"types", ids_of_types},
          {"pinned", pinned},
          {"target", {o.target_bytes, o.target_bytes > 0 ? o.rounds : 1}},
          {"calib", file_fingerprint(o.calib)},
          {"samples", {ids.size(0), ids.size(1), o.micro_batch, o.seed}},
          {"rounding", {o.damping, o.sweeps}},
          {"compute", {std::string(c10::toString(compute.dtype)), o.device}},
          {"threads", at::get_num_threads()}};
}

/// The size of a file whose tensors have so many bits per weight.
Expected<uint64_t> bytes_for(double bpw, const convert::ModelSource& source, convert::OutputOptions output) {
  static const quant::Mix& any = quant::mixes().front();
  output.mix = &any;
  const Types types(source.tensors().size(), quant::Type::F32);
  SHOEHORN_TRY(const uint64_t as_floats, convert::output_file_bytes(source, types, output));
  uint64_t n_weights = 0;
  for (const auto& tensor : source.tensors()) n_weights += tensor.n_cols() * tensor.n_rows();
  return as_floats - 4 * n_weights + static_cast<uint64_t>(bpw / 8 * static_cast<double>(n_weights));
}

/// The mix to start from when none is named: the largest whose file fits, or the smallest of all.
Expected<const quant::Mix*> starting_mix(const convert::ModelSource& source, convert::OutputOptions output,
                                         uint64_t target_bytes) {
  const quant::Mix *best = nullptr, *smallest = nullptr;
  uint64_t best_bytes = 0, smallest_bytes = UINT64_MAX;
  for (const quant::Mix& mix : quant::mixes()) {
    output.mix = &mix;
    SHOEHORN_TRY(const Types types, convert::choose_output_types(source, output));
    SHOEHORN_TRY(const uint64_t bytes, convert::output_file_bytes(source, types, output));
    const bool ternary = mix.base == quant::Type::TQ1_0 || mix.base == quant::Type::TQ2_0;
    if (!ternary && bytes <= target_bytes && bytes > best_bytes) {
      best = &mix;
      best_bytes = bytes;
    }
    if (!ternary && bytes < smallest_bytes) {
      smallest = &mix;
      smallest_bytes = bytes;
    }
  }
  return best != nullptr ? best : smallest;
}

class Calibrated {
 public:
  Calibrated(const CalibratedOptions& o, const convert::ModelSource& source, const convert::OutputOptions& output,
             const std::vector<bool>& pinned, BlockStream& stream, const WorkDirectory& work, const Text& text)
      : o_(o),
        source_(source),
        output_(output),
        pinned_(pinned),
        stream_(stream),
        work_(work),
        calibration_(split_batches(text.calibration, o.micro_batch)),
        check_(split_batches(text.check, o.micro_batch)) {}

  /// The task of the result, quantized.
  Expected<QuantizerTask> run(Types types) {
    if (o_.target_bytes == 0) {
      const QuantizerTask task = task_of(types, "");
      SHOEHORN_RETURN_IF_ERROR(quantize_model(stream_, task, calibration_, work_));
      return task;
    }
    // Costs are measured at one choice of types and extrapolated to others; the next round measures there.
    std::optional<QuantizerTask> best;
    double best_kl = 0;
    std::set<Types> seen;
    // What a type loses relative to another hardly depends on the choice: it is estimated once.
    Errors errors;
    for (int round = 0; round < o_.rounds && seen.insert(types).second; ++round) {
      QuantizerTask task = task_of(types, fmt::format("round-{}-", round));
      if (round == 0) task.candidates = candidates();
      SHOEHORN_RETURN_IF_ERROR(quantize_model(stream_, task, calibration_, work_));
      SHOEHORN_TRY(const QuantizedModel quantized, QuantizedModel::open(task, work_));
      if (round == 0) errors = quantized.errors();
      SHOEHORN_TRY(const Sensitivity measured, measure(task, quantized));
      SHOEHORN_TRY(const uint64_t bytes, convert::output_file_bytes(source_, types, output_));
      const bool fits = bytes <= o_.target_bytes;
      stream_.progress().note(fmt::format("choice {}: {}, KL {:.5f}{}", round + 1, format_bytes(bytes), measured.kl,
                                          fits ? "" : " (too large)"));
      if (fits && (!best || measured.kl < best_kl)) {
        best = task;
        best_kl = measured.kl;
        costs_ = {measured.kl, measured.tokens, {}};
        for (const auto& [tensor, without] : measured.without) costs_->of[tensor] = measured.kl - without;
      }
      SHOEHORN_TRY(types, choose(types, errors, measured));
      SHOEHORN_TRY(const uint64_t next_bytes, convert::output_file_bytes(source_, types, output_));
      // At least one choice that fits is seen through.
      if (round + 1 == o_.rounds && !best && next_bytes <= o_.target_bytes) {
        best = task_of(types, fmt::format("round-{}-", round + 1));
        SHOEHORN_RETURN_IF_ERROR(quantize_model(stream_, *best, calibration_, work_));
      }
    }
    if (!best) return fail(ErrorCode::kTooLarge, "no choice of types came to {} bytes", o_.target_bytes);
    return *best;
  }

  /// Of the result; nothing when it was not measured.
  const std::optional<convert::MeasuredCosts>& costs() const { return costs_; }

 private:
  QuantizerTask task_of(const Types& types, const std::string& generation) const {
    const Rounding rounding = o_.method == "gptq"  ? Rounding::kSecondMoments
                              : o_.method == "awq" ? Rounding::kScaled
                                                   : Rounding::kPlain;
    return {&source_, types, {}, rounding, o_.damping, o_.sweeps, generation};
  }

  static std::vector<quant::Type> candidates() {
    std::vector<quant::Type> types;
    for (const quant::Format& format : quant::formats()) {
      if (format.quantized || format.type == quant::Type::F16) types.push_back(format.type);
    }
    return types;
  }

  Expected<Sensitivity> measure(const QuantizerTask& task, const QuantizedModel& quantized) {
    const std::string name = task.generation + "sensitivity";
    SHOEHORN_TRY(const auto saved, work_.load(name));
    if (saved) {
      return Sensitivity{saved->facts.at("kl"), saved->facts.at("tokens"),
                         saved->facts.at("without").get<std::map<std::string, double>>()};
    }
    SHOEHORN_TRY(const Sensitivity measured, measure_sensitivity(stream_, quantized, check_, true));
    SHOEHORN_RETURN_IF_ERROR(
        work_.save(name, {{}, {{"kl", measured.kl}, {"tokens", measured.tokens}, {"without", measured.without}}}));
    return measured;
  }

  /// The types that lose least in the target's bytes, by what was measured.
  Expected<Types> choose(const Types& measured_at, const Errors& errors, const Sensitivity& measured) {
    Types out = measured_at;
    SHOEHORN_TRY(uint64_t budget, convert::output_file_bytes(source_, out, output_));
    std::vector<size_t> free;
    uint64_t free_bytes = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      if (pinned_[i] || !measured.without.contains(source_.tensors()[i].name)) continue;
      free.push_back(i);
      free_bytes += bytes_of(i, out[i]);
    }
    const uint64_t fixed = budget - free_bytes;
    if (fixed > o_.target_bytes) {
      return fail(ErrorCode::kTooLarge, "{} bytes are not enough for what has its type already: {}", o_.target_bytes,
                  format_bytes(fixed));
    }
    budget = o_.target_bytes - fixed;
    double mean = 0;
    for (const size_t i : free) mean += std::max(0.0, cost_of(i, measured)) / static_cast<double>(free.size());

    for (double growth = kMaxGrowth;; growth *= 4) {
      std::vector<std::vector<TypeChoice>> items;
      std::vector<std::vector<quant::Type>> types;
      bool all = true;
      for (const size_t i : free) {
        const auto& by_type = errors.at(source_.tensors()[i].name);
        const double now = std::max(by_type.at(measured_at[i]), 1e-30),
                     cost = std::max(cost_of(i, measured), kLeastShare * mean);
        items.emplace_back();
        types.emplace_back();
        for (const auto& [type, error] : by_type) {
          all &= error <= growth * now;
          if (error > growth * now) continue;
          items.back().push_back({bytes_of(i, type), cost * error / now});
          types.back().push_back(type);
        }
      }
      const auto chosen = cheapest_choices(items, budget);
      if (!chosen && !all) continue;
      if (!chosen) return tl::unexpected(chosen.error());
      for (size_t k = 0; k < free.size(); ++k) out[free[k]] = types[k][(*chosen)[k]];
      return out;
    }
  }

  double cost_of(size_t tensor, const Sensitivity& measured) const {
    return measured.kl - measured.without.at(source_.tensors()[tensor].name);
  }
  uint64_t bytes_of(size_t tensor, quant::Type type) const {
    return source_.tensors()[tensor].n_rows() *
           quant::row_bytes(quant::format(type), source_.tensors()[tensor].n_cols());
  }

  const CalibratedOptions& o_;
  const convert::ModelSource& source_;
  const convert::OutputOptions& output_;
  const std::vector<bool>& pinned_;
  BlockStream& stream_;
  const WorkDirectory& work_;
  std::vector<at::Tensor> calibration_, check_;
  std::optional<convert::MeasuredCosts> costs_;
};

/// All that is known before work begins.
struct Prepared {
  CalibratedOptions options;        ///< with defaults filled in
  convert::OutputOptions output;    ///< and the mix to begin with
  convert::ModelSource source;
  Types types;
  std::vector<bool> pinned;
  Compute compute;
  Text text;
  Json run;                         ///< the fingerprint
  BlockLoader loader;
  Plan plan;
};

Expected<Prepared> prepare(CalibratedOptions o, convert::OutputOptions output, Progress& progress) {
  set_torch_threads(output.n_threads);
  output.calibrated = true;
  output.remarks.emplace_back("shoehorn.quantize.method", o.method);
  if (o.method == "awq" && (o.target_bytes > 0 || o.target_bpw > 0)) {
    return fail(ErrorCode::kInvalid,
                "types are chosen by rtn and gptq: awq changes what the types are compared with");
  }
  SHOEHORN_TRY(auto source, convert::ModelSource::open(o.model, progress));
  NoProgress said_already;
  SHOEHORN_TRY(auto checkpoint, source.from_gguf() ? convert::open_gguf_as_checkpoint(o.model)
                                                   : convert::open_checkpoint(o.model, said_already));
  if (o.target_bpw > 0) {
    SHOEHORN_TRY(o.target_bytes, bytes_for(o.target_bpw, source, output));
  }
  if (output.mix == nullptr) {
    SHOEHORN_TRY(output.mix, starting_mix(source, output, o.target_bytes));
  }
  SHOEHORN_TRY(Types types, convert::choose_output_types(source, output));
  SHOEHORN_TRY(auto pinned, convert::overridden(source, output.overrides));
  SHOEHORN_TRY(const Compute compute, choose_compute(o.dtype, o.device));
  SHOEHORN_TRY(Text text, draw_text(o, source, progress));
  Json run = fingerprint(o, checkpoint, types, pinned, text.calibration, compute);
  BlockLoader loader(std::move(checkpoint), compute, false);
  SHOEHORN_TRY(Plan plan, make_plan(o, loader, source, types, text.calibration.numel()));
  SHOEHORN_TRY(const uint64_t file_bytes, convert::output_file_bytes(source, types, output));
  plan.estimate.output_bytes = o.target_bytes > 0 ? o.target_bytes : file_bytes;
  return Prepared{std::move(o),       std::move(output), std::move(source), std::move(types),  std::move(pinned),
                  compute,            std::move(text),   std::move(run),    std::move(loader), std::move(plan)};
}

}  // namespace

Expected<Json> estimate_calibrated(const CalibratedOptions& options, convert::OutputOptions output, Progress& progress) {
  return guarded("quantize", [&]() -> Expected<Json> {
    SHOEHORN_TRY(const Prepared prepared, prepare(options, std::move(output), progress));
    return prepared.plan.estimate.json(prepared.compute);
  });
}

Expected<convert::OutputReport> quantize_calibrated(const CalibratedOptions& options, convert::OutputOptions given,
                                                    Progress& progress) {
  return guarded("quantize", [&]() -> Expected<convert::OutputReport> {
    const auto start = std::chrono::steady_clock::now();
    SHOEHORN_TRY(auto prepared, prepare(options, std::move(given), progress));
    auto& [o, output, source, types, pinned, compute, text, run, loader, plan] = prepared;
    SHOEHORN_TRY(const std::string estimate, describe(plan.estimate, compute, o.out));
    progress.note("this takes " + estimate);
    const Peers alone;
    SHOEHORN_TRY(const auto work, WorkDirectory::open_for_file(o.out, run, o.resume, alone));
    const TorchModel model(loader.hparams(), compute, loader.checkpoint().rope_divisors);
    ActivationStore store(work.path(), plan.store_bytes);
    BlockStream stream(loader, model, store, progress, alone);
    Calibrated calibrated(o, source, output, pinned, stream, work, text);
    SHOEHORN_TRY(const QuantizerTask task, calibrated.run(types));

    SHOEHORN_TRY(const QuantizedModel quantized, QuantizedModel::open(task, work));
    output.types = task.types;
    output.encoded = [&](const std::string& name) { return quantized.blocks(name); };
    const std::chrono::duration<double> before = std::chrono::steady_clock::now() - start;
    SHOEHORN_TRY(auto report, convert::write_gguf(source, o.out, output, progress));
    report.seconds += before.count();
    report.costs = calibrated.costs();
    work.discard();
    return report;
  });
}

}  // namespace shoehorn::compress
