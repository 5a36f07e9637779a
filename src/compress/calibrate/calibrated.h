// Quantization that learns from text how a model is used: which values its matrices take (quantizer.h), and which types
// (allocation.h).
#pragma once

#include <string>

#include "base/json.h"
#include "base/progress.h"
#include "convert/gguf_output.h"

namespace shoehorn::compress {

struct CalibratedOptions {
  std::string model, out;
  std::string method = "gptq";         ///< gptq, awq, or rtn with errors weighted by the inputs' squares
  std::string calib;                   ///< text or jsonl
  int64_t samples = 0, seq_len = 512;  ///< samples 0: as many as there are, up to kMaxCalibrationTokens
  int64_t micro_batch = 4;
  uint64_t seed = 0;
  double damping = 0.01;      ///< share of the mean diagonal that is added to X'X
  int sweeps = 8;             ///< of coordinate descent after the first rounding, at most
  uint64_t target_bytes = 0;  ///< the file's; types are chosen to lose least in it. 0: the types are the mix's
  double target_bpw = 0;      ///< the same as bits per weight of the tensors
  int rounds = 4;             ///< of choosing types, each measured on the one before
  std::string dtype = "auto", device = "cpu";
  uint64_t ram = 0;  ///< bytes this may take; 0: what is available
  bool resume = false;
};

inline constexpr int64_t kMaxCalibrationTokens = 262144;

/// Writes the checkpoint options.model as a GGUF to options.out, matrices in the types that `output` chooses or, with a
/// target, in those that lose least of what has room, tensors with an override aside. What is done is kept in OUT.state
/// until the file is whole, and with options.resume not done again. Memory: one block, the second moments of its widest
/// input, and activations that go to disk beyond options.ram.
Expected<convert::OutputReport> quantize_calibrated(const CalibratedOptions& options, convert::OutputOptions output,
                                                    Progress& progress);

/// What quantize_calibrated() with these options would take (compress/estimate), without doing it. Fails as it does before
/// it begins.
Expected<Json> estimate_calibrated(const CalibratedOptions& options, convert::OutputOptions output, Progress& progress);

}  // namespace shoehorn::compress
