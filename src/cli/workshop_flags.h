// Options that the commands working on checkpoints share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace shoehorn::cli {

struct CalibrationFlags {
  std::string* file;
  int64_t *samples, *seq_len;
  uint64_t* seed;
};
void add_calibration_flags(CLI::App& app, CalibrationFlags flags);

struct WorkshopFlags {
  std::string *dtype, *device;
  int* n_threads;
  uint64_t* ram;
  bool *resume, *estimate;
};
/// compute_dtype: the name of the option that says what is computed in; commands whose --dtype is the result's have another.
void add_workshop_flags(CLI::App& app, WorkshopFlags flags, const char* compute_dtype = "--dtype,--compute-dtype");

/// "4-27", "3" or "": first and last layer, untouched when empty.
Status parse_layers(const std::string& text, int& first, int& last);

}  // namespace shoehorn::cli
