// What convert and quantize have in common: read a model, write a GGUF, report.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "convert/gguf_output.h"

namespace shoehorn::cli {

struct WriteOptions {
  std::string in, out, type;
  std::vector<std::string> tensor_types;  ///< REGEX=TYPE
  std::string imatrix;                    ///< path; "": none
  bool choose_types = false;              ///< the writer does: type may be "auto", and the choice is printed
  bool allow_requantize = false;
  bool check = false;                     ///< the output, before it gets its name
  std::string check_text;                 ///< path of a text to measure on; "": the bundled one
  int n_threads = 0;
  bool estimate = false;                  ///< only say what it would take
  bool json = false;
};

/// Reads IN and writes OUT as the output options say, or tells what that would take.
struct ModelWriter {
  std::function<Expected<convert::OutputReport>(const convert::OutputOptions& output, Progress& progress)> write;
  std::function<Expected<Json>(const convert::OutputOptions& output, Progress& progress)> estimate;
};

/// IN is streamed, every matrix by itself.
ModelWriter streaming_writer(const WriteOptions& options);

/// Checks the options, has the model written, and reports.
Status write_model(const WriteOptions& options, const ModelWriter& writer);

/// The names of all mixes, for help and errors.
std::string mix_names();

}  // namespace shoehorn::cli
