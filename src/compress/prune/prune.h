// Structural pruning of a checkpoint, a block at a time.
#pragma once

#include <string>
#include <vector>

#include "base/progress.h"
#include "compress/prune/method.h"

namespace shoehorn::compress {

struct PruneOptions {
  std::string model, out;
  std::string method = "taylor";
  std::vector<std::string> targets = {"mlp"};   ///< mlp, attention, heads, layers
  int first_layer = 0, last_layer = -1;         ///< inclusive; -1: the last one
  double ratio = 0.25;
  int64_t multiple_of = 0;                      ///< 0: the target's own
  bool search_widths = false;
  std::string calib;                            ///< text or jsonl
  int64_t samples = 0, seq_len = 0;             ///< 0: the method's own
  int64_t micro_batch = 1;
  uint64_t seed = 0;
  PruneSettings settings;
  std::string dtype = "auto", device = "cpu";
  int n_threads = 0;
  uint64_t ram = 0;                             ///< bytes this may take; 0: what is available
  bool check = true;                            ///< measure the KL divergence to the source at the end
  bool resume = false;
};

struct PrunedLayer {
  int layer = 0;
  bool dropped = false;
  models::LayerShape before, after;
};

struct PruneReport {
  std::vector<PrunedLayer> layers;              ///< those that changed
  uint64_t parameters_before = 0, parameters_after = 0;
  bool has_check = false;
  int64_t check_tokens = 0;
  double kl = 0, kl_err = 0;                    ///< mean KL(source || pruned), nats a token, and its standard error
  double nll_before = 0, nll_after = 0;
  double seconds = 0;
  /// All but the time.
  Json json() const;
  /// What json() gave. Throws Json::exception when it is something else.
  static PruneReport parse(const Json& json);
};

/// Writes the pruned checkpoint to options.out (base/work_directory: whole or not at all, resumable). Everything that can be known
/// before work starts is: what cannot become a GGUF that others load, memory, text.
Expected<PruneReport> prune(const PruneOptions& options, Progress& progress);

/// What prune() with these options would take (compress/estimate), without doing it. Fails as it does before it begins.
Expected<Json> estimate_prune(const PruneOptions& options, Progress& progress);

}  // namespace shoehorn::compress
