// How fast a disk is read.
#pragma once

#include <string>

#include "base/progress.h"
#include "base/status.h"

namespace shoehorn::fit {

/// Bytes per second that come from the disk that `folder` is on: a file of 64 MiB without a name is written there, the
/// system asked to let go of it, and it is read from its beginning to its end. Fails with kIo.
Expected<double> storage_rate(const std::string& folder, Progress& progress);

}  // namespace shoehorn::fit
