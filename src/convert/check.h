// Is this model whole, and is it what it was?
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/status.h"
#include "io/tensor_hashes.h"
#include "tokenizer/self_test.h"

namespace shoehorn::convert {

struct CheckOptions {
  std::string manifest = {};  ///< "": FILE.manifest where there is one
  bool look_beside = true;    ///< where `manifest` is ""
  std::string source = {};    ///< a checkpoint or GGUF that it was made of, to compare with; "": none
  int n_threads = 0;          ///< 0: default_thread_count()
};

/// A tensor beside the one that it was made of.
struct SourceDifference {
  std::string name, type;
  double error = 0;  ///< root of the mean square of differences over that of the source's weights, on sampled rows
  double usual = 0;  ///< the same when these rows are rounded to the type anew, each by itself
};

struct CheckResult {
  std::string architecture;
  size_t tensors = 0;
  uint64_t bytes = 0;
  io::Manifest hashes;  ///< as they are now
  std::string
      compared_to;  ///< where the hashes were that they were compared with: the key, or a manifest's path; "" nowhere
  size_t same = 0;  ///< tensors whose hash is that
  size_t rewritten =
      0;  ///< that have another type than when they were hashed: another program made a file of ours anew
  tokenizer::TemplateTest chat_template;
  std::vector<SourceDifference> differences;  ///< of all tensors, with a source
};

/// Opens a GGUF or a checkpoint directory; checks structure and shapes; tries tokenizer and chat template; reads every
/// weight: NaN and Inf are errors that name tensor and row; hashes every tensor and compares where there is something
/// to compare with: metadata, or a manifest. With a source every tensor's error must be like that of rounding to its
/// type; where a method moved weights on purpose (AWQ's scales, rotations) the source is what it moved them to. Memory
/// stays small: pages are let go behind the reader.
Expected<CheckResult> check_model(const std::string& path, const CheckOptions& options, Progress& progress);

}  // namespace shoehorn::convert
