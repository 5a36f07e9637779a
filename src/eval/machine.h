// What the machine can do at most: the ceilings that measured rates are compared with.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/kernel.h"

namespace shoehorn::eval {

/// Bytes per second that n_threads threads read from memory together: the best of several passes over a buffer larger
/// than the last-level cache, at most a quarter of the available memory. Takes about a second. Fails with kTooLarge
/// when no buffer of a useful size can be had.
Expected<double> measure_read_bandwidth(int n_threads);

/// Multiply-accumulates per second that n_threads threads reach together on registers alone, in the unit that the kernels' batch
/// products use for most formats (int8 where the CPU has dot products of it, otherwise floats). Takes about a third of a second.
double measure_multiply_peak(const kernels::KernelTable& table, int n_threads);

struct Ceilings {
  double read_bytes = 0;  ///< per second
  double macs = 0;        ///< per second
};

/// Both of the above.
Expected<Ceilings> measure_ceilings(const kernels::KernelTable& table, int n_threads);

/// Bytes of the largest cache of CPU 0; 0 when the system does not say.
uint64_t last_level_cache_bytes();

/// The processor's name as the system gives it; "unknown" when it gives none.
std::string cpu_name();

}  // namespace shoehorn::eval
