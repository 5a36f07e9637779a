// bench's measurement of energy: from a source in the machine or from an external meter's log.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "cli/bench_report.h"
#include "eval/meter_log.h"
#include "eval/power_recorder.h"

namespace shoehorn::cli {

class BenchPower {
 public:
  /// --power-source, --power-csv, --power-offset, --power-max-gap, --idle-seconds, --battery-wh, --words-per-token
  void add_to(CLI::App& app);

  /// Opens the source and measures the power of the idle machine, before anything is loaded.
  Status start(Progress& progress);
  /// What repetitions tell of their begin and end; nullptr without a source in the machine.
  eval::PowerRecorder* recorder() const { return recorder_.get(); }
  /// Reads what was recorded and fills in the figures of the rows, and why there are none.
  Status finish(const engine::Model& model, BenchReport& report);

 private:
  Expected<eval::EnergySeries> recorded() const;

  std::string source_ = "auto", csv_;
  eval::MeterLogOptions log_;
  CLI::Option* offset_ = nullptr;
  double idle_seconds_ = 5, battery_wh_ = 0, words_per_token_ = 0;

  std::string name_, trouble_;
  std::unique_ptr<eval::PowerRecorder> recorder_;
  std::optional<eval::Window> idle_;
};

}  // namespace shoehorn::cli
