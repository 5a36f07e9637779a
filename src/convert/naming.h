// general.* keys by the GGUF naming convention: <BaseName>-<SizeLabel>-<FineTune>-<Version>-<Encoding>.gguf
// (github.com/ggml-org/ggml/blob/master/docs/gguf.md, "GGUF Naming Convention").
#pragma once

#include <cstdint>
#include <string>

#include "io/gguf.h"

namespace shoehorn::convert {

struct ModelName {
  std::string name = {};        ///< "Llama 3.1 8B Instruct"
  std::string basename = {};    ///< "Llama-3.1"
  std::string finetune = {};    ///< "Instruct", may be empty
  std::string version = {};     ///< "v0.3", may be empty
  std::string size_label = {};  ///< "8B"
};

/// Splits a directory or repository name ("Llama-3.1-8B-Instruct") into its parts; the size label comes from the count.
ModelName parse_model_name(const std::string& directory, uint64_t n_parameters);

/// "Llama-3.1-8B-Instruct-Q4_K_M.gguf". What no file name may have becomes "-".
std::string file_name(const ModelName& name, const std::string& encoding);

/// "8B", "1.2B", "10M", "260K".
std::string size_label(uint64_t n_parameters);

/// Sets general.type, name, basename, finetune, version and size_label.
void write_general_names(const ModelName& name, io::GgufMetadata& metadata);

}  // namespace shoehorn::convert
