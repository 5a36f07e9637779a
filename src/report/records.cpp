#include "report/records.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/memory.h"
#include "report/axis.h"

namespace shoehorn::report {
namespace {
namespace fs = std::filesystem;

constexpr size_t kMaxSamples = 200'000;

/// A finite number, else "not measured".
double number(const Json& json, const char* key) {
  if (!json.is_object()) return kNotMeasured;
  const auto it = json.find(key);
  if (it == json.end() || !it->is_number()) return kNotMeasured;
  const auto value = it->get<double>();
  return std::isfinite(value) ? value : kNotMeasured;
}

std::string text(const Json& json, const char* key) { return json_or<std::string>(json, key, ""); }

bool has(const Json& json, std::initializer_list<const char*> keys) {
  return std::ranges::all_of(keys, [&](const char* key) { return json.contains(key); });
}

std::vector<double> numbers(const Json& json, const char* key) {
  std::vector<double> out;
  const auto it = json.find(key);
  if (it == json.end() || !it->is_array()) return out;
  for (const Json& value : *it) {
    if (out.size() == kMaxSamples) break;
    out.push_back(value.is_number() ? value.get<double>() : kNotMeasured);
  }
  return out;
}

/// Fails when a key that the record cannot do without is no number in its range.
Status require(const Json& json, const char* key, double low, double high) {
  const double value = number(json, key);
  if (value >= low && value <= high) return {};
  return fail(ErrorCode::kInvalid, "\"{}\" is {}, which is no number from {} to {}", key,
              json.contains(key) ? json[key].dump().substr(0, 60) : "missing", low, high);
}

void add_fact(Step& step, const char* name, std::string value) {
  if (!value.empty()) step.facts.emplace_back(name, std::move(value));
}

void add_count(Step& step, const char* name, double value) {
  if (value >= 0 && value < 1e18) step.facts.emplace_back(name, format_count(static_cast<uint64_t>(value)));
}

Step step_of(const Json& json, const std::string& file, const char* command, VariantNames& names) {
  Step step;
  step.file = file;
  step.command = command;
  step.in = names.find_or_add(text(json, "in"));
  step.out = names.find_or_add(text(json, "out"));
  step.seconds = number(json, "seconds");
  step.peak_rss = number(json, "peak_rss");
  return step;
}

/// "MLP 1024 -> 768 in 8 layers, heads ..." from prune's list of layers.
std::string changes(const Json& layers) {
  size_t mlp = 0, heads = 0, dropped = 0;
  std::pair<double, double> ff{1e30, 0};
  for (const Json& layer : layers) {
    if (!layer.is_object()) continue;
    if (json_or(layer, "dropped", false)) {
      ++dropped;
      continue;
    }
    const auto pair = [&](const char* key) {
      const auto values = numbers(layer, key);
      return values.size() == 2 ? std::pair(values[0], values[1]) : std::pair(0.0, 0.0);
    };
    const auto [ff_before, ff_after] = pair("n_ff");
    const auto [head_before, head_after] = pair("n_head");
    if (ff_before > ff_after) {
      ++mlp;
      ff = {std::min(ff.first, ff_after), std::max(ff.second, ff_after)};
    }
    if (head_before > head_after) ++heads;
  }
  std::string out;
  const auto add = [&](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
  if (mlp > 0) {
    add(ff.first < ff.second ? fmt::format("MLP of {} layers to {:.0f}-{:.0f}", mlp, ff.first, ff.second)
                             : fmt::format("MLP of {} layers to {:.0f}", mlp, ff.first));
  }
  if (heads > 0) add(fmt::format("heads of {} layers", heads));
  if (dropped > 0) add(fmt::format("{} layers dropped", dropped));
  return out;
}

Status fill_prune(const Json& json, Step& step) {
  SHOEHORN_RETURN_IF_ERROR(require(json, "parameters_before", 1, 1e15));
  SHOEHORN_RETURN_IF_ERROR(require(json, "parameters", 1, 1e15));
  step.parameters_before = number(json, "parameters_before");
  step.parameters_after = number(json, "parameters");
  add_fact(step, "method", text(json, "method"));
  add_fact(step, "changed", changes(json["layers"]));
  if (const auto check = json.find("check"); check != json.end() && check->is_object()) {
    step.kld_mean = number(*check, "kld_mean");
    step.kld_err = number(*check, "kld_err");
    add_count(step, "checked on tokens", number(*check, "tokens"));
  }
  return {};
}

Status fill_heal(const Json& json, Step& step) {
  SHOEHORN_RETURN_IF_ERROR(require(json, "steps", 0, 1e12));
  add_count(step, "trainable parameters", number(json, "trainable_parameters"));
  add_count(step, "steps", number(json, "steps"));
  add_count(step, "examples", number(json, "examples"));
  add_count(step, "tokens", number(json, "tokens"));
  step.best_step = number(json, "best_step");
  add_count(step, "best step", step.best_step);
  step.losses = numbers(json, "losses");
  step.validation_before = number(json, "validation_before");
  step.validation_after = number(json, "validation_after");
  return {};
}

Status fill_rotate(const Json& json, Step& step) {
  for (const auto& [name, key] : {std::pair("R1, residual stream", "r1"), {"R2, values", "r2"}, {"R4, before down_proj", "r4"}})
    add_fact(step, name, text(json["rotated"], key));
  if (const auto check = json.find("check"); check != json.end() && check->is_object()) {
    step.kld_mean = number(*check, "kld_mean");
    step.kld_err = number(*check, "kld_err");
    add_count(step, "checked on tokens", number(*check, "tokens"));
  }
  if (json_or(json, "untied", false)) add_count(step, "parameters of the untied output matrix", number(json, "untied_parameters"));
  const auto learned = json.find("learned");
  if (learned == json.end() || !learned->is_object()) return {};
  SHOEHORN_RETURN_IF_ERROR(require(*learned, "steps", 0, 1e12));
  add_count(step, "steps", number(*learned, "steps"));
  step.best_step = number(*learned, "best_step");
  add_count(step, "best step", step.best_step);
  step.losses = numbers(*learned, "losses");
  step.validation_before = number(*learned, "held_out_before");
  step.validation_after = number(*learned, "held_out_after");
  return {};
}

bool is_rotate(const Json& json) { return has(json, {"rotated", "untied"}) && json["rotated"].is_object(); }
bool is_prune(const Json& json) {
  return has(json, {"parameters_before", "parameters", "layers"}) && json["layers"].is_array();
}
bool is_heal(const Json& json) { return has(json, {"trainable_parameters", "steps", "losses"}); }

Expected<std::string> add_prune(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  Step step = step_of(json, file, "prune", names);
  SHOEHORN_RETURN_IF_ERROR(fill_prune(json, step));
  for (const auto& [id, n] : {std::pair(step.in, step.parameters_before), std::pair(step.out, step.parameters_after)}) {
    if (id != kNone && std::isnan(run.variants[id].parameters)) run.variants[id].parameters = n;
  }
  run.add(std::move(step));
  return "prune: " + file_name(text(json, "in")) + " to " + file_name(text(json, "out"));
}

Expected<std::string> add_rotate(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  Step step = step_of(json, file, "rotate", names);
  SHOEHORN_RETURN_IF_ERROR(fill_rotate(json, step));
  run.add(std::move(step));
  return "rotate: " + file_name(text(json, "in")) + " to " + file_name(text(json, "out"));
}

Expected<std::string> add_heal(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  Step step = step_of(json, file, "heal", names);
  SHOEHORN_RETURN_IF_ERROR(fill_heal(json, step));
  run.add(std::move(step));
  return "heal: " + file_name(text(json, "in")) + " to " + file_name(text(json, "out"));
}

/// {"sensitivity": {"kld_mean", "tokens", "costs": {TENSOR: KL}}}
void fill_sensitivity(const Json& json, Step& step) {
  const auto it = json.find("sensitivity");
  if (it == json.end() || !it->is_object()) return;
  step.kld_mean = number(*it, "kld_mean");
  const auto costs = it->find("costs");
  if (costs == it->end() || !costs->is_object()) return;
  for (const auto& [name, value] : costs->items()) {
    if (value.is_number() && step.sensitivity.size() < kMaxSamples)
      step.sensitivity.emplace_back(name, value.get<double>());
  }
}

Expected<std::string> add_quantize(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  SHOEHORN_RETURN_IF_ERROR(require(json, "file_bytes", 1, 1e18));
  const std::string type = text(json, "type");
  const bool plain = type == "F16" || type == "BF16" || type == "F32";
  Step step = step_of(json, file, plain ? "convert" : "quantize", names);
  add_fact(step, "type", type);
  if (const auto imatrix = json.find("imatrix"); imatrix != json.end() && imatrix->is_object())
    add_fact(step, "imatrix", file_name(text(*imatrix, "file")));
  fill_sensitivity(json, step);
  if (const auto check = json.find("check"); check != json.end() && check->is_object()) {
    step.kld_mean = number(*check, "kld_mean");
    step.kld_err = number(*check, "kld_err");
  }
  if (step.out != kNone) {
    Variant& variant = run.variants[step.out];
    if (!variant.inside) {
      variant.gguf = true;
      variant.format = type;
      variant.bytes = number(json, "file_bytes");
      variant.parameters = number(json, "parameters");
      variant.bits_per_weight = number(json, "bits_per_weight");
    }
  }
  const std::string what = step.command + ": " + file_name(text(json, "in")) + " to " + file_name(text(json, "out"));
  run.add(std::move(step));
  return what;
}

Expected<std::string> add_inspect(const Json& json, VariantNames& names, Run& run) {
  SHOEHORN_RETURN_IF_ERROR(require(json, "parameters", 1, 1e15));
  SHOEHORN_RETURN_IF_ERROR(require(json, "bytes", 1, 1e18));
  const VariantId id = names.find_or_add(text(json, "path"));
  if (id == kNone) return fail(ErrorCode::kInvalid, "\"path\" is missing");
  Variant& variant = run.variants[id];
  if (!variant.inside) {
    variant.gguf = text(json, "format") == "gguf";
    variant.bytes = number(json, "bytes");
    variant.parameters = number(json, "parameters");
    variant.bits_per_weight = number(json, "bits_per_weight");
    std::string type;
    double most = 0;
    if (const auto types = json.find("types"); types != json.end() && types->is_object()) {
      for (const auto& [name, total] : types->items()) {
        const double bytes = number(total, "bytes");
        if (bytes > most) type = name, most = bytes;
      }
    }
    variant.format = variant.gguf ? type : type + " checkpoint";
  }
  return "inspect of " + variant.label;
}

Expected<std::string> add_perplexity(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  SHOEHORN_RETURN_IF_ERROR(require(json, "ppl", 1, 1e300));
  // What a model would be on other hardware is not what it is.
  if (const double bits = number(json, "activation_bits"); bits > 0)
    return fmt::format("perplexity of {} with activations of {:.0f} bits", file_name(text(json, "model")), bits);
  Quality q;
  q.file = file;
  q.variant = names.find_or_add(text(json, "model"));
  q.base = names.find_or_add(text(json, "kl_base"));
  if (q.variant == kNone) return fail(ErrorCode::kInvalid, "\"model\" names no file");
  q.text = text(json, "file");
  q.n_ctx = number(json, "n_ctx");
  q.tokens = number(json, "tokens");
  q.ppl = number(json, "ppl");
  q.ppl_err = number(json, "ppl_err");
  q.base_ppl = number(json, "base_ppl");
  q.kld_mean = number(json, "kld_mean");
  q.kld_err = number(json, "kld_err");
  q.kld_p99 = number(json, "kld_p99");
  q.top1 = number(json, "top1");
  run.qualities.push_back(q);
  return "perplexity of " + run.variants[q.variant].label;
}

/// What bench noted over time: power as it was sampled, temperature and frequency once a repetition. Times count from
/// the first.
void fill_over_time(const Json& json, Rate& rate) {
  const auto add = [&](const char* name, const char* unit, std::vector<std::pair<double, double>> points) {
    if (points.size() < 2) return;
    const double start = points.front().first;
    for (auto& point : points) point.first -= start;
    rate.over_time.push_back({name, unit, std::move(points)});
  };
  std::vector<std::pair<double, double>> power;
  if (const auto samples = json.find("power_over_time"); samples != json.end() && samples->is_array()) {
    for (const Json& sample : *samples) {
      if (power.size() == kMaxSamples) break;
      if (sample.is_array() && sample.size() == 2 && sample[0].is_number() && sample[1].is_number())
        power.emplace_back(sample[0].get<double>(), sample[1].get<double>());
    }
  }
  add("Power", "W", std::move(power));
  const auto times = numbers(json, "samples_unix");
  static constexpr const char* kSeries[][3] = {{"samples_temperature_c", "Temperature", "°C"},
                                               {"samples_mhz", "Frequency", "MHz"}};
  for (const auto& [key, name, unit] : kSeries) {
    const auto values = numbers(json, key);
    std::vector<std::pair<double, double>> points;
    for (size_t i = 0; i < std::min(times.size(), values.size()); ++i) {
      if (std::isfinite(times[i]) && std::isfinite(values[i])) points.emplace_back(times[i], values[i]);
    }
    add(name, unit, std::move(points));
  }
}

void fill_profile(const Json& json, Rate& rate) {
  const auto profile = json.find("profile");
  if (profile == json.end() || !profile->is_array()) return;
  for (const Json& step : *profile) {
    const double share = number(step, "share");
    if (std::isfinite(share) && rate.profile.size() < 64) rate.profile.emplace_back(text(step, "op"), share);
  }
}

Status add_rate(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  SHOEHORN_RETURN_IF_ERROR(require(json, "avg_ts", 0, 1e12));
  Rate r;
  r.file = file;
  r.variant = names.find_or_add(text(json, "model_filename"));
  if (r.variant == kNone) return fail(ErrorCode::kInvalid, "\"model_filename\" names no file");
  r.cpu = text(json, "cpu_info");
  r.isa = text(json, "isa");
  r.build = text(json, "build_commit");
  r.time = text(json, "test_time");
  const auto count = [&](const char* key) {
    const double n = number(json, key);
    return n >= 0 && n < 1e9 ? n : 0;
  };
  r.n_prompt = count("n_prompt");
  r.n_gen = count("n_gen");
  r.n_depth = count("n_depth");
  r.n_batch = number(json, "n_batch");
  r.n_threads = number(json, "n_threads");
  r.avg_ts = number(json, "avg_ts");
  r.stddev_ts = number(json, "stddev_ts");
  r.ttft_ms = number(json, "ttft_ms");
  r.ttlt_ms = number(json, "ttlt_ms");
  r.peak_rss = number(json, "peak_rss");
  r.kv_bytes = number(json, "kv_bytes");
  r.load_ms = number(json, "load_ms");
  r.mbu = number(json, "mbu");
  r.read_gbs = number(json, "read_gbs");
  r.int8_gmacs = number(json, "int8_gmacs");
  r.answer_ts = number(json, "answer_ts");
  r.joules_per_token = number(json, "joules_per_token");
  r.tokens_per_joule = number(json, "tokens_per_joule");
  r.active_tokens_per_joule = number(json, "active_tokens_per_joule");
  r.watts = number(json, "watts");
  r.idle_watts = number(json, "idle_watts");
  r.words_per_battery = number(json, "words_per_battery");
  r.power_source = text(json, "power_source");
  r.power_trouble = text(json, "power_trouble");
  r.taints = text(json, "taints");
  fill_over_time(json, r);
  fill_profile(json, r);

  const Variant& variant = run.variants[r.variant];
  const double size = number(json, "model_size");
  if (variant.layers && !std::isnan(size) && std::abs(size - static_cast<double>(variant.layers->bytes)) > 0.5) {
    return fail(ErrorCode::kInvalid, "measured on another {} than the one here: its tensors had {:.0f} bytes, not {}",
                variant.path, size, variant.layers->bytes);
  }
  run.rates.push_back(std::move(r));
  return {};
}

Expected<std::string> add_bench(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  for (const Json& test : json) SHOEHORN_RETURN_IF_ERROR(add_rate(test, file, names, run));
  const size_t n = json.size();
  return fmt::format("bench of {}, {} test{}", run.variants[run.rates.back().variant].label, n, n == 1 ? "" : "s");
}

/// "model/" as "model".
fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

Expected<std::string> add_eval(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  const VariantId variant = names.find_or_add(text(json, "model"));
  if (variant == kNone) return fail(ErrorCode::kInvalid, "\"model\" names no file");
  const Json* compared = json.contains("compare") && json["compare"].is_object() ? &json["compare"] : nullptr;
  const VariantId other = compared == nullptr ? kNone : names.find_or_add(text(*compared, "model"));
  size_t n = 0;
  for (const auto& [name, figure] : json["metrics"].items()) {
    if (!figure.is_object() || n++ == 32) continue;
    Score s;
    s.file = file;
    s.variant = variant;
    s.task = text(json, "task");
    s.data = text(json, "file");
    s.metric = name;
    s.value = number(figure, "value");
    s.low = number(figure, "low");
    s.high = number(figure, "high");
    s.items = number(json, "items");
    if (other != kNone && compared->contains("metrics") && (*compared)["metrics"].is_object() &&
        (*compared)["metrics"].contains(name)) {
      const Json& difference = (*compared)["metrics"][name];
      s.compared = other;
      s.difference = number(difference, "value");
      s.difference_low = number(difference, "low");
      s.difference_high = number(difference, "high");
      s.p = number(difference, "p");
    }
    run.scores.push_back(std::move(s));
  }
  return fmt::format("eval of {}: {}", run.variants[variant].label, text(json, "task"));
}

bool is_bench(const Json& json) {
  return json.is_array() && !json.empty() && std::ranges::all_of(json, [](const Json& test) {
           return test.is_object() && has(test, {"avg_ts", "n_prompt", "n_gen", "model_filename"});
         });
}

}  // namespace

VariantNames::VariantNames(Run& run, const std::string& directory) : run_(&run) {
  const fs::path root = fs::absolute(directory).lexically_normal();
  for (VariantId id = 0; id < run.variants.size(); ++id) {
    const fs::path path = (root / run.variants[id].path).lexically_normal();
    by_path_[without_slash(path).string()] = id;
    by_file_name_[without_slash(path).filename().string()].push_back(id);
  }
}

VariantId VariantNames::find_or_add(const std::string& path) {
  if (path.empty()) return kNone;
  const fs::path named = without_slash(fs::path(path).lexically_normal());
  if (const auto known = by_path_.find(named.string()); known != by_path_.end()) return known->second;
  // Where a relative path began is not known, and records come from other machines: the name decides when only one has
  // it.
  const auto same_name = by_file_name_.find(named.filename().string());
  if (same_name != by_file_name_.end() && same_name->second.size() == 1) return same_name->second.front();
  if (++n_outside_ > kMaxOutside) return kNone;
  Variant variant;
  variant.path = named.string();
  variant.label = named.filename().string();
  variant.gguf = named.extension() == ".gguf";
  if (variant.gguf) variant.label = named.stem().string();
  if (variant.label.empty() ||
      std::ranges::find(run_->variants, variant.label, &Variant::label) != run_->variants.end())
    variant.label = variant.path;
  run_->variants.push_back(std::move(variant));
  return by_path_[named.string()] = run_->variants.size() - 1;
}

Expected<std::string> add_record(const Json& json, const std::string& file, VariantNames& names, Run& run) {
  if (run.qualities.size() + run.rates.size() + run.scores.size() + run.steps.size() >= kMaxRecords)
    return fail(ErrorCode::kTooLarge, "there are more than {} records in the run", kMaxRecords);
  if (is_bench(json)) return add_bench(json, file, names, run);
  if (!json.is_object()) return std::string();
  if (is_prune(json)) return add_prune(json, file, names, run);
  if (is_heal(json)) return add_heal(json, file, names, run);
  if (is_rotate(json)) return add_rotate(json, file, names, run);
  if (has(json, {"task", "model", "metrics"}) && json["metrics"].is_object()) return add_eval(json, file, names, run);
  if (has(json, {"ppl", "model", "tokens"})) return add_perplexity(json, file, names, run);
  if (has(json, {"in", "out", "type", "file_bytes"})) return add_quantize(json, file, names, run);
  if (has(json, {"architecture", "hparams", "tensors", "path"})) return add_inspect(json, names, run);
  if (has(json, {"adapter", "in", "out"})) {
    Step step = step_of(json, file, "merge", names);
    add_fact(step, "adapter", text(json, "adapter"));
    run.add(std::move(step));
    return std::string("heal --merge");
  }
  if (has(json, {"file", "ok"})) {
    const bool good = json_or(json, "ok", false);
    return fmt::format("verify of {}: {}", file_name(text(json, "file")), good ? "good" : text(json, "reason"));
  }
  if (has(json, {"out", "entries", "chunk_size"})) return "imatrix: " + file_name(text(json, "out"));
  if (has(json, {"id", "task", "sums"})) return std::string("an answer of eval");
  if (has(json, {"ids", "pieces"})) return std::string("tokenize");
  if (has(json, {"ids", "prompt_ids"})) return std::string("run: an answer");
  return std::string();
}

Status add_checkpoint_record(const Json& json, const std::string& file, VariantId out, Run& run) {
  if (run.maker(out) != nullptr || !json.is_object()) return {};
  Step step;
  step.file = file;
  step.out = out;
  if (is_prune(json)) {
    step.command = "prune";
    SHOEHORN_RETURN_IF_ERROR(fill_prune(json, step));
  } else if (is_heal(json)) {
    step.command = "heal";
    SHOEHORN_RETURN_IF_ERROR(fill_heal(json, step));
  } else if (is_rotate(json)) {
    step.command = "rotate";
    SHOEHORN_RETURN_IF_ERROR(fill_rotate(json, step));
  } else if (json.contains("merged")) {
    step.command = "merge";
    add_fact(step, "adapter", text(json["merged"], "adapter"));
  } else {
    return {};
  }
  run.add(std::move(step));
  return {};
}

}  // namespace shoehorn::report
