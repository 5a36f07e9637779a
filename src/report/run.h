// A run as its directory tells it: the models in it, and what the commands' --json output says about them.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "report/model_layers.h"

namespace shoehorn::report {

/// What was not measured is NaN.
inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

/// Index of a variant; kNone: unknown.
using VariantId = size_t;
inline constexpr VariantId kNone = std::numeric_limits<size_t>::max();

/// What quantize found when it checked its output: the shoehorn.check.* keys of a GGUF.
struct Check {
  std::string text, prompt, sentence;
  double tokens = kNotMeasured, ppl = kNotMeasured, source_ppl = kNotMeasured;
  double kld_mean = kNotMeasured, kld_err = kNotMeasured, top1 = kNotMeasured;
};

/// A model: a checkpoint or a GGUF of the directory, or one elsewhere that a record names.
struct Variant {
  std::string path;     ///< relative to the directory; of one elsewhere, as the record has it
  std::string label;    ///< a short name, unique in the run
  bool inside = false;  ///< it is in the directory, and `layers` tells what it holds
  bool gguf = false;
  std::string format;  ///< "Q4_K_M", "BF16 checkpoint"
  std::string method;  ///< how it was quantized beyond rounding: "gptq", "imatrix"; "": nothing is said
  std::optional<ModelLayers> layers;
  std::optional<Check> check;
  double bytes = kNotMeasured;  ///< of the file, of a checkpoint of its weights
  double parameters = kNotMeasured;
  double bits_per_weight = kNotMeasured;
  /// Other shoehorn.* and quantize.* keys of a GGUF, values as text.
  std::vector<std::pair<std::string, std::string>> facts;
};

/// `shoehorn perplexity`.
struct Quality {
  std::string file;
  VariantId variant = kNone, base = kNone;
  std::string text;  ///< the file that was predicted
  double n_ctx = kNotMeasured, tokens = kNotMeasured;
  double ppl = kNotMeasured, ppl_err = kNotMeasured, base_ppl = kNotMeasured;
  double kld_mean = kNotMeasured, kld_err = kNotMeasured, kld_p99 = kNotMeasured, top1 = kNotMeasured;
};

/// Something over time: watts, degrees, MHz.
struct TimeSeries {
  std::string name, unit;
  std::vector<std::pair<double, double>> points;  ///< seconds, value
};

/// A test of `shoehorn bench`.
struct Rate {
  std::string file;
  VariantId variant = kNone;
  std::string cpu, isa, build, time;
  double n_prompt = 0, n_gen = 0, n_depth = 0, n_batch = kNotMeasured, n_threads = kNotMeasured;
  double avg_ts = kNotMeasured, stddev_ts = kNotMeasured;
  double ttft_ms = kNotMeasured, ttlt_ms = kNotMeasured;
  double peak_rss = kNotMeasured, kv_bytes = kNotMeasured, load_ms = kNotMeasured;
  double mbu = kNotMeasured, read_gbs = kNotMeasured, int8_gmacs = kNotMeasured;
  double answer_ts = kNotMeasured;  ///< generated tokens per second after the first token
  double joules_per_token = kNotMeasured, tokens_per_joule = kNotMeasured, active_tokens_per_joule = kNotMeasured;
  double watts = kNotMeasured, idle_watts = kNotMeasured, words_per_battery = kNotMeasured;
  std::string power_source, power_trouble;  ///< where the energy figures are from, or why there are none
  std::string taints;                       ///< what disturbed repetitions: throttling, other programs
  std::vector<TimeSeries> over_time;
  std::vector<std::pair<std::string, double>> profile;  ///< share of the time by kind of step

  /// As llama-bench has it: "pp512", "tg128 @ d4096".
  std::string test() const;
};

/// A metric of `shoehorn eval`, intervals of 95 %.
struct Score {
  std::string file;
  VariantId variant = kNone;
  std::string task, metric, data;
  double value = kNotMeasured, low = kNotMeasured, high = kNotMeasured, items = kNotMeasured;
  // Paired with another model on the same items: this one's figure minus the other's.
  VariantId compared = kNone;
  double difference = kNotMeasured, difference_low = kNotMeasured, difference_high = kNotMeasured, p = kNotMeasured;
};

/// A command that made one model of another.
struct Step {
  std::string file;
  std::string command;  ///< "prune", "heal", "quantize", "convert", "merge"
  VariantId in = kNone, out = kNone;
  std::vector<std::pair<std::string, std::string>> facts;
  double parameters_before = kNotMeasured, parameters_after = kNotMeasured;
  double seconds = kNotMeasured, peak_rss = kNotMeasured;
  double kld_mean = kNotMeasured, kld_err = kNotMeasured;  ///< the stage's own check
  std::vector<double> losses;                              ///< heal: of each optimizer step
  double validation_before = kNotMeasured, validation_after = kNotMeasured, best_step = kNotMeasured;
  std::vector<std::pair<std::string, double>>
      sensitivity;  ///< KL that quantizing a tensor costs the model, by GGUF name
};

/// What became of a file.
struct RunFile {
  std::string path, what;
  bool bad = false;  ///< damaged or refused: `what` is the reason
};

struct Run {
  std::string directory, name;
  std::vector<Variant> variants;
  std::vector<Quality> qualities;
  std::vector<Rate> rates;
  std::vector<Score> scores;
  std::vector<Step> steps;
  std::vector<std::pair<std::string, std::string>> recipes;  ///< file, text
  std::vector<RunFile> files;

  void add(Step step);
  /// The step that made a variant, the first that says so; nullptr when no record tells.
  const Step* maker(VariantId variant) const;
  /// Files that are damaged or were refused.
  size_t n_bad() const;

 private:
  std::map<VariantId, size_t> makers_;
};

/// What is behind a path's last slash.
std::string file_name(const std::string& path);

/// Most bytes of a JSON file that are read.
inline constexpr uint64_t kMaxJsonBytes = uint64_t{16} << 20;
/// Most files of a directory that are looked at.
inline constexpr size_t kMaxFiles = 4096;

/// Looks through the directory and up to three levels of folders in it; what links to folders is not followed. Whatever
/// a file holds, it fails only when the directory itself cannot be read: a file that cannot be understood, or is
/// damaged, is in Run::files, and progress.note() names the damaged ones. `ignore`: a path that is passed over, the
/// report's own.
Expected<Run> read_run(const std::string& directory, const std::string& ignore, Progress& progress);

}  // namespace shoehorn::report
