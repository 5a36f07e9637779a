// What convert and quantize have in common: read a model, write a GGUF, report.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::cli {

struct WriteOptions {
  std::string in, out, type;
  std::vector<std::string> tensor_types;   ///< REGEX=TYPE
  std::string imatrix;                     ///< path; "": none
  bool allow_requantize = false;
  int n_threads = 0;
  bool json = false;
};

Status write_model(const WriteOptions& options);

/// The names of all mixes, for help and errors.
std::string mix_names();

}  // namespace shoehorn::cli
