// How bench says what it measured: llama-bench's table, JSON and CSV, with what it does not have.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "eval/bench.h"
#include "eval/energy.h"
#include "eval/load_time.h"
#include "eval/machine.h"

namespace shoehorn::cli {

/// One combination of the settings that need a session of their own.
struct BenchSetting {
  int n_threads;
  size_t n_batch, n_ubatch;
  std::string type_k, type_v;
};

/// A measured test with the setting that it ran under.
struct BenchRow {
  BenchSetting setting;
  eval::BenchResult result;
  uint64_t logits_hash;
  eval::Ceilings ceilings = {};
  eval::EnergyFigures energy = {};
  std::vector<eval::EnergySeries::Sample> power = {};  ///< watts while it ran

  /// Repetitions whose timing is doubtful.
  size_t n_tainted() const;
  /// Why, each reason once, in the words of the first repetition that has it.
  std::vector<std::string> taints() const;
};

struct BenchReport {
  std::string model_path;
  std::string model_type;  ///< "llama 1.24 B Q4_K_M"
  uint64_t model_bytes = 0, n_params = 0;
  std::string isa;
  eval::LoadTime load;
  double peak_gbs = 0;         ///< what the memory is said to do; 0: not given
  std::string power_source;    ///< row of power_sources.inc, or "csv"; "": none
  std::string power_measures;  ///< what exactly
  std::string power_trouble;   ///< why there is no source, or no figure
  double battery_wh = 0, words_per_token = 0;
  // Settings have a column in the table when they differ from the default or from test to test.
  bool show_batch = false, show_ubatch = false, show_type_k = false, show_type_v = false;
  std::vector<BenchRow> rows;
};

/// What a model's file says about it.
void describe_model(const engine::Model& model, BenchReport& report);

void print_bench_json(const BenchReport& report);
void print_bench_csv(const BenchReport& report);
void print_bench_table(const BenchReport& report);

}  // namespace shoehorn::cli
