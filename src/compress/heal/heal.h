// Training low-rank adapters on a pruned model, and merging them into it.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "compress/heal/adamw.h"
#include "compress/heal/lora.h"
#include "quant/format.h"

namespace shoehorn::compress {

struct HealOptions {
  std::string model, out, data;
  std::string teacher;                      ///< checkpoint directory; "": cross-entropy on the data
  bool teacher_cache = false;               ///< keep the teacher's last activations of every example on disk
  LoraSettings lora;
  /// A quantized type: all projections are trained whole, as that type will hold them, and written as a GGUF of it too.
  std::optional<quant::Type> qat;
  int64_t qat_warmup = 0;                   ///< steps over which rounding sets in
  std::string qat_from;                     ///< GGUF of the model whose weights are begun with; "": the model's own
  AdamWSettings adamw;
  int64_t epochs = 2, max_steps = 0;        ///< max_steps > 0 ends earlier
  int64_t batch = 64, micro_batch = 4;      ///< examples per optimizer step, and at once
  int64_t cutoff = 256;                     ///< tokens of an example
  int64_t validation = 2000;                ///< examples that are kept out of training, at most a tenth of all
  int64_t validate_every = 200;             ///< steps
  uint64_t seed = 42;
  std::string result_dtype;                 ///< of merged weights: "" as stored, bf16, f16 or f32
  std::string compute_dtype = "auto", device = "cpu";
  int n_threads = 0;
  uint64_t ram = 0;
  bool resume = false;
  double save_seconds = 60;                 ///< between two saves of the state; the result does not depend on it
};

struct HealReport {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  int64_t parameters = 0;                   ///< trainable
  int64_t steps = 0, examples = 0, tokens = 0;
  std::vector<double> losses;               ///< mean loss of each step
  double validation_before = kNone, validation_after = kNone;   ///< mean loss a token; NaN without validation
  int64_t best_step = 0;
  double rounding_kl = kNone;               ///< mean KL(adapter in wide precision || merged and rounded); NaN without validation
  std::string gguf;                         ///< name of the quantized file in the output; "": none
  double seconds = 0, tokens_per_second = 0, seconds_per_step = 0;
  double bytes_read_per_step = 0;           ///< from storage
  int64_t steps_planned = 0;                ///< of all epochs, whatever max_steps says
  /// All but what differs from run to run.
  Json json() const;
  /// What json() gave. Throws Json::exception when it is something else.
  static HealReport parse(const Json& json);
};

struct MergeOptions {
  std::string model, adapter;               ///< checkpoint and PEFT directory
  std::string out;                          ///< merged checkpoint; "": none
  std::string gguf;                         ///< adapter as a GGUF for the model's GGUF; "": none
  std::string result_dtype;                 ///< as in HealOptions
  int n_threads = 0;
};

/// Merges somebody's adapter into a checkpoint, or writes it as llama.cpp's GGUF, or both.
Status merge_adapter(const MergeOptions& options, Progress& progress);

/// Writes the merged checkpoint to options.out, with the adapter in its folder "adapter" in PEFT's form. Resumable
/// (compress/work_directory): the result does not depend on interruptions.
Expected<HealReport> heal(const HealOptions& options, Progress& progress);

/// What heal() with these options would take (compress/estimate), without doing it. Fails as it does before it begins.
Expected<Json> estimate_heal(const HealOptions& options, Progress& progress);

}  // namespace shoehorn::compress
