// A Hugging Face checkpoint whose tensors have been found to be what its configuration calls for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "models/hf_config.h"

namespace shoehorn::convert {

struct OpenedCheckpoint {
  std::string directory;
  Json config_json;             ///< config.json, or what takes its place where the weights are a pickled model
  models::ModelConfig config;
  std::shared_ptr<const io::Checkpoint> weights;  ///< nullptr: the tensors are a GGUF's
  /// Of models::tensor_specs(), those that checkpoints store, each as the weights have it.
  struct Tensor {
    models::TensorSpec spec;
    io::CheckpointTensor stored;
  };
  std::vector<Tensor> tensors;
  float gain_offset = 0;        ///< what the stored gains of norms lack (models::Architecture); a GGUF's lack nothing
  // Of a GGUF:
  std::shared_ptr<const io::GgufFile> file;
  bool interleaved = false;         ///< rows of q and k lie as NORM rope has them
  std::vector<float> rope_divisors; ///< the rope_freqs tensor; empty: what the configuration says
};

/// Reads config.json and maps the weights. Weights that are a pickled model say themselves how wide their layers are
/// (convert/object_config.h), and bring the rest of their configuration along where there is no config.json. Fails naming the tensor
/// when one that the architecture needs is missing, has another shape or no floating dtype, or when one is left over; what is
/// dropped goes to progress.note().
Expected<OpenedCheckpoint> open_checkpoint(const std::string& directory, Progress& progress);

/// An unquantized GGUF as a checkpoint: its tensors under Hugging Face's names, in place. Fails naming the tensor when one is
/// quantized. config_json stays empty.
Expected<OpenedCheckpoint> open_gguf_as_checkpoint(const std::string& path);

}  // namespace shoehorn::convert
