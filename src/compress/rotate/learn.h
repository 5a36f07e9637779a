// Rotations that are learned: those that the quantized network suffers least with.
#pragma once

#include <functional>
#include <string>

#include "base/progress.h"
#include "compress/rotate/fuse.h"
#include "compress/work_directory.h"
#include "quant/format.h"

namespace shoehorn::compress {

struct LearnOptions {
  int64_t steps = 0;            ///< 0: nothing is learned
  std::string calib;            ///< text or .jsonl
  int64_t samples = 128, tokens = 0;  ///< windows that are learned from, of so many tokens; 0: 512, or what the model was trained on
  int64_t held_out = 16;        ///< further windows, which only say when it was best
  int64_t held_out_every = 25;  ///< steps
  int64_t batch = 8, micro_batch = 4;  ///< windows of a step, and at once
  double lr = 0.02;             ///< CayleySettings
  int activation_bits = 4;      ///< of what the blocks' matrices read, a scale per token; 0: as it is
  std::string weight_type;      ///< what the blocks' matrices are rounded to meanwhile, as "Q3_K"; "": as they are
  std::string device = "cpu";
  uint64_t ram = 0;             ///< for activations; 0: half of what is free
  double save_seconds = 60;
};

struct LearnReport {
  int64_t steps = 0, best_step = 0;
  std::vector<double> losses;                         ///< of each step: mean KL(source || quantized) a token
  double held_out_before = 0, held_out_after = 0;     ///< the same on what is not learned from
  double defect = 0;                                  ///< largest entry of |R'R - 1| over all rotations at the end
  Json json() const;
};

/// R1 and R2 of `rotations` (as they are there at first) by Cayley SGD on the mean KL(source || rotated and quantized) of
/// the next token, as in SpinQuant (Liu et al. 2024, arXiv:2405.16406), there with cross-entropy. Rounding passes
/// gradients on as they are (straight-through, Bengio et al. 2013, arXiv:1308.3432); beyond SpinQuant, the error that it
/// makes is taken to be in proportion to the range that the steps divide, so that gradients say which values should be
/// smaller (Esser et al. 2020, arXiv:1902.08153). Blocks are streamed: memory holds one
/// with its rotated weights and their gradients, and the activations that fit. Learned rotations are dense. Ends with
/// those of the step that was best on the windows held out. Goes on from what `work` has saved.
Expected<LearnReport> learn_rotations(const BlockLoader& source, const LearnOptions& options, uint64_t seed,
                                      const WorkDirectory& work, Rotations& rotations, Progress& progress);

/// Every option that changes what is learned; null when nothing is.
Json learn_fingerprint(const LearnOptions& options);

/// The tokens of a window.
int64_t tokens_of(const LearnOptions& options, const models::Hparams& hparams);

/// x [..., n] rounded as the engine rounds activations (Products::set_input), with gradients as learn_rotations() says.
at::Tensor round_activations(const at::Tensor& x, int bits);

/// Rows of a matrix as a format keeps them, with such gradients. The matrix itself where its rows are no whole blocks.
at::Tensor round_weights(const at::Tensor& weight, const quant::Format& format);

}  // namespace shoehorn::compress
