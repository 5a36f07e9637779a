// Is this model whole?
#pragma once

#include <string>

#include "base/progress.h"
#include "base/status.h"

namespace shoehorn::convert {

struct CheckResult {
  std::string architecture;
  size_t tensors = 0;
  uint64_t bytes = 0;
};

/// Opens a GGUF or a checkpoint directory, checks structure, shapes and tokenizer, and reads every weight: NaN and Inf are
/// errors that name tensor and row. Memory stays small: pages are let go behind the reader.
Expected<CheckResult> check_model(const std::string& path, int n_threads, Progress& progress);

}  // namespace shoehorn::convert
