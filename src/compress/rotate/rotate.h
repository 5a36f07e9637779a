// Writing a checkpoint with rotations in its weights.
#pragma once

#include <functional>
#include <string>

#include "base/json.h"
#include "base/progress.h"
#include "compress/estimate.h"
#include "compress/rotate/learn.h"

namespace shoehorn::compress {

struct RotateOptions {
  std::string model, out;
  RotationOptions rotations;
  LearnOptions learn;
  bool resume = false;       ///< go on with what an interrupted run had learned
  std::string result_dtype;  ///< bf16, f16, f32, or "" as stored
  int n_threads = 0;         ///< 0: default_thread_count()
  /// What is found out about the directory before it gets its name, for the report; an error refuses it. Empty:
  /// nothing.
  std::function<Expected<Json>(const std::string& directory)> check;
};

struct RotateReport {
  std::string r1, r2, r4;          ///< how each is made, as "12 x 64" (several widths with commas); "" when it is not done
  bool untied = false;             ///< the output matrix was the embedding and is one of its own now,
  uint64_t untied_parameters = 0;  ///< which adds these
  LearnReport learned;
  Json check;                      ///< null: none
  double seconds = 0;
  Json json() const;
};

/// Writes the rotated checkpoint to options.out, whole or not at all. Computed in double precision, a tensor at a time.
/// Fails
/// for Hadamard matrices of odd order, naming the dimension, and for R4 where the checkpoint has it already.
Expected<RotateReport> rotate(const RotateOptions& options, Progress& progress);

/// What rotate() with these options would take (compress/estimate), without doing it.
Expected<Json> estimate_rotate(const RotateOptions& options, Progress& progress);

}  // namespace shoehorn::compress
