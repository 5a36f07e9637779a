// GPTQ (Frantar et al. 2022, arXiv:2210.17323) on the grids of GGUF's formats: every matrix is rounded to make the
// least error at its output, on the inputs that the already quantized part of the model before it produces.
#pragma once

#include <string>

#include "base/progress.h"
#include "convert/gguf_output.h"

namespace shoehorn::compress {

struct GptqOptions {
  std::string model, out;
  std::string calib;                   ///< text or jsonl
  int64_t samples = 0, seq_len = 512;  ///< samples 0: as many as there are, up to kMaxCalibrationTokens
  int64_t micro_batch = 4;
  uint64_t seed = 0;
  double damping = 0.01;  ///< share of the mean diagonal that is added to X'X
  int sweeps = 8;         ///< of coordinate descent after the first rounding, at most
  std::string dtype = "auto", device = "cpu";
  uint64_t ram = 0;  ///< bytes this may take; 0: what is available
  bool resume = false;
};

inline constexpr int64_t kMaxCalibrationTokens = 262144;

/// Writes the checkpoint options.model as a GGUF to options.out, matrices in the types that `output` chooses. What is
/// done is kept in OUT.state until the file is whole, and with options.resume not done again. Memory: one block, the
/// second moments of its widest input, and activations that go to disk beyond options.ram.
Expected<convert::OutputReport> gptq(const GptqOptions& options, convert::OutputOptions output,
                                     Progress& progress);

}  // namespace shoehorn::compress
