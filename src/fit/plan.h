// What a model would be on a device at each size it can be given: from shapes alone, before anything is downloaded or
// computed.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert/gguf_output.h"
#include "fit/device.h"
#include "quant/mix.h"

namespace shoehorn::fit {

/// A model's dimensions, read from config.json alone or from a GGUF's header.
struct ModelFacts {
  std::string name;
  const models::Architecture* architecture = nullptr;
  models::Hparams hparams;
  io::GgufMetadata tokenizer;  ///< its keys
  bool has_tokenizer = false;  ///< false: there was none beside config.json, and the keys' size is a guess
};

/// `path`: a checkpoint's folder, its config.json, or a GGUF. Weights are not looked at. Fails as read_model_config and
/// GgufFile::open do.
Expected<ModelFacts> read_model_facts(const std::string& path);

/// The GGUF of a model with these dimensions, without weights. Fails with kUnsupported when nothing stock could read it.
Expected<convert::ModelSource> outline_of(const ModelFacts& model, const models::Hparams& hparams);

/// The size of that file. What a tokenizer that was not there takes is guessed.
Expected<uint64_t> file_bytes_of(const ModelFacts& model, const convert::ModelSource& outline,
                                 const convert::OutputOptions& output, const std::vector<quant::Type>& types);

struct PlanOptions {
  uint64_t ram = 0;     ///< bytes that the model may take; 0: the device's usable share
  size_t n_ctx = 4096;  ///< positions of the KV cache (F16)
  size_t n_prompt = 512, n_answer = 128;
  double min_tokens_per_s = 0;  ///< generated after a prompt of n_prompt; 0: any
  double max_ttft_s = 0;        ///< for a prompt of n_prompt; 0: any
};

/// A size that the model can be given.
struct Choice {
  const quant::Mix* mix = nullptr;
  double width = 1;  ///< share of their neurons that the middle layers' MLPs keep
  uint64_t parameters = 0;
  uint64_t tensor_bytes = 0, file_bytes = 0;  ///< without and with metadata and tokenizer
  uint64_t ram_bytes = 0;                     ///< resident: weights, keys and values of n_ctx positions, buffers
  double tokens_per_s = 0, ttft_s = 0, ttlt_s = 0;
  std::optional<double>
      published_loss;        ///< perplexity over the F16 model's, minus 1, of another model's published table
  bool fits = false;         ///< into the memory
  bool fast_enough = false;  ///< meets min_tokens_per_s and max_ttft_s
  bool pareto = false;       ///< no other choice that fits is as large in bits and width and as fast

  double bits_per_weight() const { return 8.0 * static_cast<double>(file_bytes) / static_cast<double>(parameters); }
};

struct Plan {
  std::vector<Choice> choices;        ///< unpruned first, large ones first
  std::optional<size_t> recommended;  ///< nothing fits or is fast enough otherwise
  std::string reason;
};

/// The layers whose MLPs a plan cuts, [first, end): not the first and the last ones, which matter most.
std::pair<size_t, size_t> pruned_layers(size_t n_layer);

/// The model at one size. width below 1 cuts the MLPs of all layers but the first and the last four (an eighth of the
/// layers where these are fewer) to a multiple of 256. Fails with kUnsupported when nothing stock could read the
/// result.
Expected<Choice> evaluate_choice(const ModelFacts& model, const Device& device, const PlanOptions& options,
                                 const quant::Mix& mix, double width);

/// All named mixes at full width, and some of them pruned.
Expected<Plan> make_plan(const ModelFacts& model, const Device& device, const PlanOptions& options);

/// Where published losses are from.
extern const char* const kPublishedSource;

}  // namespace shoehorn::fit
