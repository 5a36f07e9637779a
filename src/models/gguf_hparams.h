// GGUF metadata <-> architecture and dimensions.
#pragma once

#include "io/gguf.h"
#include "models/model.h"

namespace shoehorn::models {

struct GgufModel {
  const Architecture* architecture = nullptr;
  Hparams hparams;
};

/// Reads general.architecture and its keys; biases, a tied output and rope_freqs are recognised by the tensors that are there.
/// Checks that every tensor the architecture needs is present with the right shape and that none is left over.
Expected<GgufModel> read_gguf_model(const io::GgufFile& file);

/// Writes general.architecture and the architecture's keys.
void write_gguf_hparams(const Architecture& architecture, const Hparams& hparams, io::GgufMetadata& metadata);

}  // namespace shoehorn::models
