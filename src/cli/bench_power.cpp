#include "cli/bench_power.h"

#include <fmt/ranges.h>

#include <chrono>
#include <filesystem>
#include <set>
#include <thread>

#include "cli/command.h"

namespace shoehorn::cli {
namespace {

constexpr int kIdleSteps = 10;  // a second: how often a wish to stop is looked for

std::set<std::string> source_names() {
  std::set<std::string> names = {"auto", "none"};
  for (const eval::PowerSourceKind& kind : eval::power_sources()) names.insert(kind.name);
  return names;
}

std::string describe_sources() {
  std::string text = "Where power comes from: none, or auto, the first of";
  for (const eval::PowerSourceKind& kind : eval::power_sources())
    text += fmt::format("\n{}: {}", kind.name, kind.summary);
  return text;
}

/// Watts from the first repetition's begin to the last one's end; a counter's are those between two of its samples.
std::vector<eval::EnergySeries::Sample> watts_during(const eval::EnergySeries& series,
                                                     const std::vector<eval::Window>& windows) {
  std::vector<eval::EnergySeries::Sample> watts;
  const auto& samples = series.samples();
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].time < windows.front().begin || samples[i].time > windows.back().end) continue;
    if (series.kind() == eval::EnergySeries::Kind::kPower) {
      watts.push_back(samples[i]);
    } else if (i > 0 && samples[i].time > samples[i - 1].time) {
      watts.push_back(
          {samples[i].time, (samples[i].value - samples[i - 1].value) / (samples[i].time - samples[i - 1].time)});
    }
  }
  return watts;
}

}  // namespace

void BenchPower::add_to(CLI::App& app) {
  const CLI::Range seconds(0.0, 86400.0);
  app.add_option("--power-source", source_, describe_sources())
      ->check(CLI::IsMember(source_names()))
      ->capture_default_str();
  app.add_option(
      "--power-csv", csv_,
      "Log of an external meter: a table with columns for time and power, or voltage and current; read at the end");
  offset_ = app.add_option("--power-offset", log_.offset,
                           "Seconds to add to the log's times; the Unix time of its begin when they count from 0");
  app.add_option("--power-max-gap", log_.max_gap,
                 "Seconds without a sample in the log over which power is interpolated")
      ->check(seconds)
      ->capture_default_str();
  app.add_option("--idle-seconds", idle_seconds_, "How long the idle machine's power is measured before, 0: not")
      ->check(seconds)
      ->capture_default_str();
  app.add_option("--battery-wh", battery_wh_, "Capacity of a battery in watt-hours: how many words does it last for?")
      ->check(CLI::Range(0.0, 1e9));
  app.add_option("--words-per-token", words_per_token_,
                 "For --battery-wh (default: of English text with the model's tokenizer)")
      ->check(CLI::Range(0.0, 100.0));
}

Status BenchPower::start(Progress& progress) {
  log_.has_offset = offset_->count() > 0;
  if (!csv_.empty()) {
    if (!std::filesystem::exists(csv_))
      return fail(ErrorCode::kNotFound, "{}: there is no such log; start the meter first", csv_);
    name_ = "csv";
  } else if (source_ != "none") {
    SHOEHORN_TRY(auto opened, eval::open_power_source(source_));
    trouble_ = opened.trouble;
    name_ = opened.name;
    if (opened.source) recorder_ = std::make_unique<eval::PowerRecorder>(std::move(opened.source));
  } else {
    trouble_ = "not asked for";
  }
  if (name_.empty() || idle_seconds_ <= 0) return {};

  const auto steps = static_cast<uint64_t>(idle_seconds_ * kIdleSteps) + 1;
  const auto step = std::chrono::duration<double>(idle_seconds_ / static_cast<double>(steps));
  progress.begin("idle power", steps);
  if (recorder_) recorder_->mark();
  const double begin = eval::unix_seconds();
  for (uint64_t i = 0; i < steps; ++i) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    std::this_thread::sleep_for(step);
    progress.advance(1);
  }
  idle_ = eval::Window{begin, eval::unix_seconds()};
  if (recorder_) recorder_->mark();
  progress.end();
  return {};
}

Expected<eval::EnergySeries> BenchPower::recorded() const {
  return recorder_ ? recorder_->series() : eval::read_meter_log(csv_, log_);
}

Status BenchPower::finish(const engine::Model& model, BenchReport& report) {
  report.power_source = name_;
  report.power_trouble = trouble_;
  if (battery_wh_ > 0) {
    report.battery_wh = battery_wh_;
    report.words_per_token = words_per_token_ > 0 ? words_per_token_ : eval::english_words_per_token(model.tokenizer());
  }
  if (name_.empty()) return {};
  report.power_measures = recorder_ ? recorder_->description() : csv_;
  const auto series = recorded();
  if (!series) {
    report.power_trouble = series.error().message;
    return {};
  }
  for (BenchRow& row : report.rows) {
    const eval::BenchTest& test = row.result.test;
    row.energy = eval::energy_of(*series, {.repetitions = row.result.windows,
                                           .n_tokens = test.n_prompt + test.n_gen,
                                           .idle = idle_,
                                           .battery_wh = report.battery_wh,
                                           .words_per_token = report.words_per_token});
    row.power = watts_during(*series, row.result.windows);
  }
  return {};
}

}  // namespace shoehorn::cli
