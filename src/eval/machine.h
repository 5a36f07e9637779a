// What the machine can do at most: the ceilings that measured rates are compared with.
#pragma once

#include <string>

#include "base/status.h"

namespace shoehorn::eval {

/// Bytes per second that n_threads threads read from memory together: the best of several passes over a buffer larger
/// than the last-level cache, at most a quarter of the available memory. Takes about a second. Fails with kTooLarge
/// when no buffer of a useful size can be had.
Expected<double> measure_read_bandwidth(int n_threads);

/// The processor's name as the system gives it; "unknown" when it gives none.
std::string cpu_name();

}  // namespace shoehorn::eval
