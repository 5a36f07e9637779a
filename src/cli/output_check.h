// The check that quantize and rotate make of their output, and what it leaves in a file's metadata.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/progress.h"
#include "convert/gguf_output.h"
#include "eval/output_check.h"

namespace shoehorn::cli {

class OutputCheck {
 public:
  /// source: the model that the output is made of; text: a file to measure on, "" for the bundled text.
  OutputCheck(std::string source, std::string text, int n_threads);

  /// The keys "shoehorn.check.*" before anything is measured: zero tokens.
  convert::Remarks unmeasured() const;
  /// Looks at every weight of the file or checkpoint at `path`, and measures it; the keys with what was found. What cannot be measured is a note, and unmeasured(). Fails when
  /// the model does not compute.
  Expected<convert::Remarks> run(const std::string& path, Progress& progress);

  /// Null when nothing was measured.
  Json json() const;
  /// A line or two; "" when nothing was measured.
  std::string summary() const;

 private:
  convert::Remarks remarks(const eval::CheckResult& result) const;

  std::string source_, text_;
  int n_threads_;
  std::optional<eval::CheckResult> result_;
};

}  // namespace shoehorn::cli
