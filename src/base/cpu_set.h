// Sets of logical CPUs, in the notations of llama.cpp's options and of the kernel.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoehorn {

/// Numbers of logical CPUs, ascending, each once.
using CpuSet = std::vector<int>;

/// CPUs that a notation may name: 0 to kMaxCpus - 1.
inline constexpr int kMaxCpus = 4096;

/// "f0" or "0xF0": bit i is CPU i. Fails with kInvalid for other characters, an empty set or a CPU from kMaxCpus on.
Expected<CpuSet> parse_cpu_mask(std::string_view hex);

/// "4-7". Fails with kInvalid for other notations, a range that runs backwards or a CPU from kMaxCpus on.
Expected<CpuSet> parse_cpu_range(std::string_view range);

/// "0-3,8,10-11" as files under /sys have it; the empty set when it is not well-formed.
CpuSet parse_cpu_list(std::string_view list);

/// {0, 1, 2, 5} as "0-2,5".
std::string format_cpu_list(const CpuSet& cpus);

CpuSet intersect(const CpuSet& a, const CpuSet& b);
CpuSet unite(const CpuSet& a, const CpuSet& b);

/// The CPUs that the calling thread may run on (its affinity mask). {0} when the system does not say.
CpuSet thread_affinity();

/// Lets the calling thread run on these CPUs only. Fails with kIo naming the CPUs, e.g. when none of them is online.
Status set_thread_affinity(const CpuSet& cpus);

}  // namespace shoehorn
