#include "fit/probe.h"

#include <algorithm>
#include <array>
#include <ctime>

#include "base/cpu_budget.h"
#include "base/memory.h"
#include "engine/session.h"
#include "eval/bench.h"
#include "eval/machine.h"
#include "eval/profile.h"
#include "fit/probe_model.h"
#include "fit/storage_rate.h"

namespace shoehorn::fit {
namespace {

using engine::Step;

constexpr size_t kBatch = 512;
constexpr size_t kFewPositions = kBatch, kManyPositions = 4096;
constexpr uint64_t kLeastWeights = uint64_t{512} << 20, kFewestWeights = uint64_t{48} << 20;
constexpr int kSinglePasses = 9, kBatchPasses = 3;
constexpr std::array kHeadDims = {64u, 128u};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

bool is_product(Step step) {
  return step == Step::kQkv || step == Step::kAttentionOutput || step == Step::kGateUp || step == Step::kDown;
}

/// One pass's steps: seconds and work summed over the layers.
struct Pass {
  std::array<eval::ProfileEntry, engine::kStepCount> steps;
  const eval::ProfileEntry& operator[](Step step) const { return steps[static_cast<size_t>(step)]; }

  double product_seconds() const {
    return sum([](const eval::ProfileEntry& e) { return e.seconds; });
  }
  double product_bytes() const {
    return sum([](const eval::ProfileEntry& e) { return static_cast<double>(e.bytes); });
  }
  double product_macs() const {
    return sum([](const eval::ProfileEntry& e) { return static_cast<double>(e.macs); });
  }
  double product_calls() const {
    return sum([](const eval::ProfileEntry& e) { return static_cast<double>(e.calls); });
  }

 private:
  template <class Of>
  double sum(Of of) const {
    double out = 0;
    for (const eval::ProfileEntry& entry : steps) out += is_product(entry.step) ? of(entry) : 0;
    return out;
  }
};

/// Passes over one model at places of its context.
class Timed {
 public:
  static Expected<Timed> create(const ProbeShape& shape, uint32_t n_layer, quant::Type type,
                                const ProbeWeights& weights, int n_threads) {
    SHOEHORN_TRY(auto model, probe_model(shape, n_layer, type, weights));
    engine::SessionOptions options;
    options.n_ctx = kManyPositions + kBatch;
    options.n_batch = kBatch;
    options.n_threads = n_threads;
    SHOEHORN_TRY(auto session, engine::Session::create(std::move(model), options));
    return Timed(std::move(session));
  }

  /// n_tokens at position n_past; all of them come out.
  Expected<Pass> pass(size_t n_past, size_t n_tokens) {
    while (session_.n_past() < n_past) SHOEHORN_RETURN_IF_ERROR(eval(std::min(kBatch, n_past - session_.n_past()), 0));
    session_.truncate(n_past);
    eval::StepProfiler profiler(session_);
    SHOEHORN_RETURN_IF_ERROR(eval(n_tokens, n_tokens));
    Pass out;
    for (const eval::ProfileEntry& entry : profiler.entries()) out.steps[static_cast<size_t>(entry.step)] = entry;
    return out;
  }

  /// Several, after one that does not count.
  Expected<std::vector<Pass>> passes(size_t n_past, size_t n_tokens, int n, Progress& progress) {
    std::vector<Pass> out;
    for (int i = 0; i <= n; ++i) {
      if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      SHOEHORN_TRY(Pass timed, pass(n_past, n_tokens));
      if (i > 0) out.push_back(std::move(timed));
    }
    return out;
  }

 private:
  explicit Timed(engine::Session session) : session_(std::move(session)) {}

  Status eval(size_t n, size_t n_logits) {
    std::vector<tokenizer::Token> tokens(n);
    for (size_t i = 0; i < n; ++i) tokens[i] = eval::bench_token(session_.n_past() + i, session_.n_vocab());
    SHOEHORN_TRY(const auto logits, session_.eval(tokens, n_logits));
    (void)logits;
    return {};
  }

  engine::Session session_;
};

template <class Of>
double median_of(const std::vector<Pass>& passes, Of of) {
  std::vector<double> values;
  for (const Pass& pass : passes) values.push_back(of(pass));
  return median(std::move(values));
}

/// What one step costs per call, from a token and a batch: call + n * elements * element.
struct Line {
  double call_s, element_s;
};

Line line_through(double one_s, double batch_s, double elements) {
  const double element = std::max(0.0, (batch_s - one_s) / (elements * (kBatch - 1)));
  return {std::max(0.0, one_s - elements * element), element};
}

Status measure_steps(const ProbeWeights& weights, int n_threads, Device& device, Progress& progress) {
  for (const uint32_t head_dim : kHeadDims) {
    ProbeShape shape;
    shape.head_dim = head_dim;
    shape.n_head = shape.n_embd / head_dim;
    shape.n_head_kv = shape.n_head / 4;
    constexpr uint32_t kLayers = 2;
    SHOEHORN_TRY(Timed timed, Timed::create(shape, kLayers, quant::Type::Q8_0, weights, n_threads));
    SHOEHORN_TRY(const auto first, timed.passes(0, kBatch, kBatchPasses, progress));
    SHOEHORN_TRY(const auto few, timed.passes(kFewPositions, 1, kSinglePasses, progress));
    SHOEHORN_TRY(const auto late, timed.passes(kManyPositions - kBatch, kBatch, kBatchPasses, progress));
    SHOEHORN_TRY(const auto many, timed.passes(kManyPositions, 1, kSinglePasses, progress));
    const auto seconds = [](Step step) { return [step](const Pass& pass) { return pass[step].seconds / kLayers; }; };
    const auto entry = [](const std::vector<Pass>& passes, Step step) { return passes.front()[step]; };

    AttentionRates& rates = device.attention[static_cast<int>(head_dim)];
    const double batch_macs =
        static_cast<double>(entry(late, Step::kAttention).macs + entry(first, Step::kAttention).macs) / kLayers;
    rates.macs =
        batch_macs / (median_of(first, seconds(Step::kAttention)) + median_of(late, seconds(Step::kAttention)));
    const double few_s = median_of(few, seconds(Step::kAttention)), many_s = median_of(many, seconds(Step::kAttention));
    const double few_bytes = static_cast<double>(entry(few, Step::kAttention).bytes) / kLayers,
                 many_bytes = static_cast<double>(entry(many, Step::kAttention).bytes) / kLayers;
    rates.read = (many_bytes - few_bytes) / std::max(many_s - few_s, 1e-9);
    rates.call_s = std::max(0.0, few_s - few_bytes / rates.read);
    if (head_dim != kHeadDims.front()) continue;
    const Line norm =
        line_through(median_of(few, seconds(Step::kFfnNorm)), median_of(first, seconds(Step::kFfnNorm)), shape.n_embd);
    const double rotated = (shape.n_head + 2.0 * shape.n_head_kv) * head_dim;
    const Line rope =
        line_through(median_of(few, seconds(Step::kRope)), median_of(first, seconds(Step::kRope)), rotated);
    device.steps = {(norm.call_s + rope.call_s) / 2, norm.element_s, rope.element_s};
  }
  return {};
}

Status measure_format(const quant::Format& format, ProbeWeights& weights, int n_threads, Device& device,
                      Progress& progress) {
  weights.fill(format);
  const ProbeShape shape;
  const uint64_t layer_bytes = quant::row_bytes(format, shape.layer_weights());
  const auto n_layer = static_cast<uint32_t>(std::max<uint64_t>(1, weights.bytes().size() / layer_bytes));
  FormatRates rates;
  {
    SHOEHORN_TRY(Timed timed, Timed::create(shape, n_layer, format.type, weights, n_threads));
    SHOEHORN_TRY(const auto passes, timed.passes(0, 1, kSinglePasses, progress));
    rates.read = passes.front().product_bytes() / median_of(passes, [&](const Pass& pass) {
                   return pass.product_seconds() - pass.product_calls() * device.steps.step_s;
                 });
  }
  SHOEHORN_TRY(Timed timed, Timed::create(shape, 1, format.type, weights, n_threads));
  SHOEHORN_TRY(const auto passes, timed.passes(0, kBatch, kBatchPasses, progress));
  rates.macs =
      passes.front().product_macs() / median_of(passes, [](const Pass& pass) { return pass.product_seconds(); });
  device.formats[format.type] = rates;
  return {};
}

}  // namespace

Expected<std::set<quant::Type>> formats_of(const std::string& gguf) {
  SHOEHORN_TRY(const auto file, io::GgufFile::open(gguf));
  std::set<quant::Type> out;
  for (const auto& tensor : file.tensors()) {
    if (tensor.shape.size() > 1) out.insert(tensor.type);
  }
  return out;
}

Expected<Device> probe(const ProbeOptions& o, Progress& progress) {
  const int n_threads = o.n_threads > 0 ? o.n_threads : default_thread_count();
  SHOEHORN_TRY(const auto* kernel_set, kernels::select_kernel_set());
  Device device;
  device.isa = kernel_set->isa;
  device.cores = n_threads;
  device.ram = memory_limit();
  char day[16];
  const std::time_t now = std::time(nullptr);
  std::strftime(day, sizeof day, "%Y-%m-%d", std::gmtime(&now));
  device.name = "this machine";
  device.about = fmt::format("{}, {} threads, measured {}", eval::cpu_name(), n_threads, day);
  SHOEHORN_TRY(const eval::Ceilings ceilings, eval::measure_ceilings(kernel_set->table(), n_threads));
  device.read = ceilings.read_bytes;
  device.macs = ceilings.macs;
  if (!o.storage.empty()) {
    SHOEHORN_TRY(device.storage, storage_rate(o.storage, progress));
  }

  std::vector<const quant::Format*> formats;
  for (const quant::Format& format : quant::formats()) {
    const bool wanted =
        o.formats.empty() || std::find(o.formats.begin(), o.formats.end(), format.type) != o.formats.end();
    if (wanted && format.encode != nullptr) formats.push_back(&format);
  }
  const uint64_t wanted =
      o.weight_bytes > 0 ? o.weight_bytes : std::max(kLeastWeights, 4 * eval::last_level_cache_bytes());
  const uint64_t bytes = std::min(wanted, available_memory() / 2);
  // A layer of floats, the largest format.
  if (const uint64_t least = std::max(kFewestWeights, ProbeShape().layer_weights() * 4); bytes < least) {
    return fail(ErrorCode::kTooLarge, "measuring takes {} of memory, half of what is free is {}", format_bytes(least),
                format_bytes(bytes));
  }
  SHOEHORN_TRY(ProbeWeights weights, ProbeWeights::allocate(bytes));
  progress.begin("measuring", formats.size() + 2);
  weights.fill(quant::format(quant::Type::Q8_0));
  SHOEHORN_RETURN_IF_ERROR(measure_steps(weights, n_threads, device, progress));
  progress.advance(2);
  for (const quant::Format* format : formats) {
    SHOEHORN_RETURN_IF_ERROR(measure_format(*format, weights, n_threads, device, progress));
    progress.advance(1);
  }
  progress.end();
  return device;
}

}  // namespace shoehorn::fit
