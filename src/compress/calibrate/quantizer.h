// A whole model's matrices rounded to given types, each for the inputs that the already quantized part of the model
// before it produces.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "compress/block_stream.h"
#include "compress/work_directory.h"
#include "convert/model_source.h"

namespace shoehorn::compress {

enum class Rounding {
  kPlain,          ///< each weight by itself, errors weighted by the inputs' squares
  kScaled,         ///< the same after the columns were scaled for it (awq.h)
  kSecondMoments,  ///< GPTQ (Frantar et al. 2022, arXiv:2210.17323) and coordinate descent (matrix_quantizer.h)
};

struct QuantizerTask {
  const convert::ModelSource* source;
  std::vector<quant::Type> types;       ///< of the source's tensors
  std::vector<quant::Type> candidates;  ///< types whose errors are to be estimated for every matrix; empty: none
  Rounding rounding = Rounding::kSecondMoments;
  double damping = 0.01;
  int sweeps = 8;
  std::string generation;  ///< before the names of the states that are saved
};

/// Rows of a matrix that are encoded at once, and how many of it an estimate of errors looks at.
inline constexpr int64_t kRowsAtOnce = 1024, kSampleRows = 64;

/// Quantizes what the task says on batches of ids [n_samples, n_tokens] each. What is done is saved in `work` and not
/// done again.
Status quantize_model(BlockStream& stream, const QuantizerTask& task, const std::vector<at::Tensor>& batches,
                      const WorkDirectory& work);

/// Estimated errors of each matrix by candidate type: relative to each other they say what a type loses.
using Errors = std::map<std::string, std::map<quant::Type, double>>;

/// What quantize_model saved. Blocks are in the file's order of rows, mapped.
class QuantizedModel {
 public:
  static Expected<QuantizedModel> open(const QuantizerTask& task, const WorkDirectory& work);

  /// Empty for tensors that it did not quantize.
  std::span<const std::byte> blocks(const std::string& name) const;
  /// The decoded matrix in Hugging Face's order of rows, or a vector that scaling changed, float; undefined where
  /// blocks() is empty.
  at::Tensor values(int layer, models::WeightId id) const;
  const Errors& errors() const { return errors_; }
  const QuantizerTask& task() const { return *task_; }

 private:
  const QuantizerTask* task_ = nullptr;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, std::span<const std::byte>> blocks_;
  Errors errors_;
};

/// The activations that an embedding table [n_vocab, n_embd] gives for ids [n_samples, n_tokens], times a scale, as BlockStream's.
at::Tensor look_up(const at::Tensor& table, const at::Tensor& ids, float scale, const Compute& compute);

}  // namespace shoehorn::compress
