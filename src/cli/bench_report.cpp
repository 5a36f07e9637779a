#include "cli/bench_report.h"

#include <fmt/chrono.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/command.h"
#include "quant/mix.h"

namespace shoehorn::cli {
namespace {

template <class T>
Json nullable(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// nullptr for "".
Json nullable(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

template <class T>
Json over_repetitions(const eval::BenchResult& result, std::optional<T> eval::Conditions::*what) {
  Json all = Json::array();
  for (const eval::Conditions& c : result.conditions) all.push_back(nullable(c.*what));
  return all;
}

std::optional<double> hottest(const eval::BenchResult& result) {
  std::optional<double> most;
  for (const eval::Conditions& c : result.conditions) {
    if (c.temperature_c) most = std::max(most.value_or(*c.temperature_c), *c.temperature_c);
  }
  return most;
}

std::optional<double> mean_mhz(const eval::BenchResult& result) {
  double sum = 0, n = 0;
  for (const eval::Conditions& c : result.conditions) {
    sum += c.mhz.value_or(0);
    n += c.mhz ? 1 : 0;
  }
  return n > 0 ? std::optional(sum / n) : std::nullopt;
}

/// One test with llama-bench's keys and ours, in the order of the CSV's columns.
std::vector<std::pair<const char*, Json>> fields(const BenchReport& report, const BenchRow& row) {
  const eval::BenchResult& r = row.result;
  const BenchSetting& s = row.setting;
  const eval::EnergyFigures& e = row.energy;
  const bool has_peak = report.peak_gbs > 0, has_battery = report.battery_wh > 0;
  const bool both = !report.power_trouble.empty() && !e.trouble.empty();
  const std::string trouble = report.power_trouble + (both ? "; " : "") + e.trouble;
  return {{"build_commit", SHOEHORN_VERSION},
          {"build_number", 0},
          {"cpu_info", eval::cpu_name()},
          {"gpu_info", ""},
          {"backends", "CPU"},
          {"isa", report.isa},
          {"model_filename", report.model_path},
          {"model_type", report.model_type},
          {"model_size", report.model_bytes},
          {"model_n_params", report.n_params},
          {"n_batch", s.n_batch},
          {"n_ubatch", s.n_ubatch},
          {"n_threads", s.n_threads},
          {"type_k", s.type_k},
          {"type_v", s.type_v},
          {"n_gpu_layers", 0},
          {"n_prompt", r.test.n_prompt},
          {"n_gen", r.test.n_gen},
          {"n_depth", r.test.n_depth},
          {"test_time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(r.started))},
          {"avg_ns", static_cast<uint64_t>(r.avg_ns)},
          {"stddev_ns", static_cast<uint64_t>(r.stddev_ns)},
          {"avg_ts", r.avg_ts},
          {"stddev_ts", r.stddev_ts},
          {"ttft_ms", r.ttft_ms},
          {"ttlt_ms", r.ttlt_ms},
          {"answer_ts", r.answer_ts() > 0 ? Json(r.answer_ts()) : Json(nullptr)},
          {"peak_rss", r.peak_rss},
          {"kv_bytes", r.kv_bytes},
          {"weight_bytes_per_token", r.weight_bytes},
          {"mbu", r.mbu(row.ceilings.read_bytes)},
          {"read_gbs", row.ceilings.read_bytes * 1e-9},
          {"mbu_peak", has_peak ? Json(r.mbu(report.peak_gbs * 1e9)) : Json(nullptr)},
          {"peak_gbs", has_peak ? Json(report.peak_gbs) : Json(nullptr)},
          {"int8_gmacs", row.ceilings.macs * 1e-9},
          {"load_ms", report.load.open_ms},
          {"load_first_token_ms", report.load.first_token_ms},
          {"load_state", report.load.state()},
          {"tainted", row.n_tainted()},
          {"taints", fmt::format("{}", fmt::join(row.taints(), "; "))},
          {"temperature_c", nullable(hottest(r))},
          {"mhz", nullable(mean_mhz(r))},
          {"power_source", nullable(report.power_source)},
          {"power_measures", nullable(report.power_measures)},
          {"power_trouble", nullable(trouble)},
          {"joules", nullable(e.joules)},
          {"stddev_joules", nullable(e.stddev_joules)},
          {"watts", nullable(e.watts)},
          {"idle_watts", nullable(e.idle_watts)},
          {"joules_per_token", nullable(e.joules_per_token)},
          {"tokens_per_joule", nullable(e.tokens_per_joule)},
          {"active_tokens_per_joule", nullable(e.active_tokens_per_joule)},
          {"battery_wh", has_battery ? Json(report.battery_wh) : Json(nullptr)},
          {"words_per_token", has_battery ? Json(report.words_per_token) : Json(nullptr)},
          {"words_per_battery", nullable(e.words_per_battery)},
          {"logits_hash", fmt::format("{:016x}", row.logits_hash)}};
}

Json profile_json(const BenchRow& row) {
  double total = 0;
  for (const eval::ProfileEntry& entry : row.result.profile) total += entry.seconds;
  Json all = Json::array();
  for (const eval::ProfileEntry& entry : row.result.profile) {
    all.push_back({{"op", eval::step_name(entry.step)},
                   {"calls", entry.calls},
                   {"ms", entry.seconds * 1e3},
                   {"share", entry.seconds / total},
                   {"bytes", entry.bytes},
                   {"macs", entry.macs},
                   {"gbs", static_cast<double>(entry.bytes) / entry.seconds * 1e-9},
                   {"gmacs", static_cast<double>(entry.macs) / entry.seconds * 1e-9},
                   {"of_read", static_cast<double>(entry.bytes) / entry.seconds / row.ceilings.read_bytes},
                   {"of_int8", static_cast<double>(entry.macs) / entry.seconds / row.ceilings.macs}});
  }
  return all;
}

}  // namespace

size_t BenchRow::n_tainted() const {
  return static_cast<size_t>(std::ranges::count_if(result.conditions, [](const auto& c) { return !c.taints.empty(); }));
}

std::vector<std::string> BenchRow::taints() const {
  // A reason is known by its letters: the figures in it differ from one repetition to the next.
  const auto letters = [](std::string text) {
    std::erase_if(text, [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
    return text;
  };
  std::vector<std::string> known, all;
  for (const eval::Conditions& c : result.conditions) {
    for (const std::string& taint : c.taints) {
      if (std::ranges::find(known, letters(taint)) != known.end()) continue;
      known.push_back(letters(taint));
      all.push_back(taint);
    }
  }
  return all;
}

void describe_model(const engine::Model& model, BenchReport& report) {
  for (const io::GgufTensor& tensor : model.file().tensors()) {
    report.model_bytes += tensor.data.size();
    report.n_params += tensor.n_elements();
  }
  report.isa = model.kernel_set().isa;
  std::string mix = "unknown mix";
  if (const auto file_type = model.file().metadata().get_uint("general.file_type")) {
    for (const quant::Mix& m : quant::mixes()) {
      if (m.file_type == *file_type) mix = m.name;
    }
  }
  const auto n = static_cast<double>(report.n_params);
  const std::string size = n >= 1e9 ? fmt::format("{:.2f} B", n * 1e-9) : fmt::format("{:.2f} M", n * 1e-6);
  report.model_type = fmt::format("{} {} {}", models::gguf_name(model.architecture(), model.hparams()), size, mix);
}

void print_bench_json(const BenchReport& report) {
  Json all = Json::array();
  for (const BenchRow& row : report.rows) {
    const eval::BenchResult& r = row.result;
    Json object;
    for (auto& [key, value] : fields(report, row)) object[key] = std::move(value);
    object["samples_ns"] = r.samples_ns;
    object["samples_ts"] = r.samples_ts;
    object["samples_unix"] = Json::array();
    for (const eval::Window& window : r.windows) object["samples_unix"].push_back(window.begin);
    object["samples_temperature_c"] = over_repetitions(r, &eval::Conditions::temperature_c);
    object["samples_mhz"] = over_repetitions(r, &eval::Conditions::mhz);
    object["samples_throttle_events"] = over_repetitions(r, &eval::Conditions::throttle_events);
    object["samples_pi_flags"] = over_repetitions(r, &eval::Conditions::pi_flags);
    object["samples_others_cpus"] = over_repetitions(r, &eval::Conditions::others_cpus);
    object["samples_waiting"] = over_repetitions(r, &eval::Conditions::waiting);
    object["samples_taints"] = Json::array();
    for (const eval::Conditions& c : r.conditions) object["samples_taints"].push_back(c.taints);
    object["samples_joules"] = Json::array();
    for (const auto& joules : row.energy.samples_joules) object["samples_joules"].push_back(nullable(joules));
    object["power_over_time"] = Json::array();  // [Unix seconds, watts]
    for (const auto& sample : row.power) object["power_over_time"].push_back({sample.time, sample.value});
    if (!r.profile.empty()) object["profile"] = profile_json(row);
    all.push_back(std::move(object));
  }
  print_json(all);
}

void print_bench_csv(const BenchReport& report) {
  const auto quote = [](const Json& value) {
    if (value.is_null()) return std::string();
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + "\"";
  };
  for (size_t i = 0; i < report.rows.size(); ++i) {
    std::vector<std::string> header, cells;
    for (const auto& [key, value] : fields(report, report.rows[i])) {
      header.emplace_back(key);
      cells.push_back(quote(value));
    }
    if (i == 0) print(fmt::format("{}", fmt::join(header, ",")));
    print(fmt::format("{}", fmt::join(cells, ",")));
  }
}

}  // namespace shoehorn::cli
