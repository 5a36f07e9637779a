// The end of a fit: what came out, as a table, results.json and a page.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fit/device.h"
#include "fit/runner.h"

namespace shoehorn::cli {

/// What bench measured of a GGUF, and what was predicted of it from a device's rates (0: nothing was).
struct Rates {
  double prompt_s = 0, tokens_per_s = 0, ttlt_s = 0, mbu = 0;
  uint64_t memory = 0;
  double predicted_tokens_per_s = 0, predicted_prompt_s = 0;
};

/// Of a result that has a bench, by `device`'s rates.
Expected<Rates> rates_of(const fit::Result& result, const std::optional<fit::Device>& device);

/// As records have them; what was not predicted is null.
Json json_of(const Rates& rates, bool predicted);

/// Makes report.html of a run's folder and returns its path.
Expected<std::string> write_page(const std::string& directory, Progress& progress);

/// "0.41 s", "12.3 min", "2.1 h".
std::string seconds_text(double seconds);

struct ConcludeOptions {
  std::string directory;  ///< of the run
  bool json = false;      ///< results.json on stdout in place of the table
};

/// Checks that the files read text as the model does, writes results.json and report.html, and prints what was
/// measured; `device`: this machine's rates, to say how far predictions were off.
Status conclude_run(const ConcludeOptions& options, const fit::Recipe& recipe, const fit::Needs& needs,
                    const std::vector<fit::Result>& results, const std::optional<fit::Device>& device);

}  // namespace shoehorn::cli
