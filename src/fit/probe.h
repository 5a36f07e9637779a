// Measuring the machine at hand: how fast the engine's parts are on it, apart from any model.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/status.h"
#include "fit/device.h"

namespace shoehorn::fit {

struct ProbeOptions {
  int n_threads = 0;                      ///< 0: default_thread_count()
  std::vector<quant::Type> formats = {};  ///< empty: all that can be encoded
  std::string storage = {};               ///< folder whose disk is read; "": none is
  uint64_t weight_bytes = 0;  ///< memory of weights to read; 0: four times the last-level cache, half a GiB at least,
                              ///< as far as there is room
};

/// Times the engine's products for each format, attention and the steps between with matrices of no meaning in memory
/// that no cache holds: one token and batches of 512, medians of several passes. Takes about a second per format on a
/// server and some on a board. The device has this machine's memory, cores and name. kTooLarge when there is too little
/// memory to measure with, kCancelled.
Expected<Device> probe(const ProbeOptions& options, Progress& progress);

/// The formats of a file's matrices: what a probe needs to know to predict it.
Expected<std::set<quant::Type>> formats_of(const std::string& gguf);

}  // namespace shoehorn::fit
