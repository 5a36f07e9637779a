// How many CPUs this process should use: its affinity mask, the quota of its cgroups, the kinds of cores there are.
#pragma once

#include <string>

#include "base/cpu_set.h"

namespace shoehorn {

struct CpuBudget {
  CpuSet allowed;     ///< the affinity mask; not empty
  CpuSet fast;        ///< of these, one per physical core of the fastest kind; not empty
  double quota = 0;   ///< CPU seconds per second that the cgroups allow; 0: no limit

  /// The number of threads to use when the user names none: the fast cores, not more than the quota rounded up.
  int default_threads() const;
};

/// Reads ROOT/proc and ROOT/sys; "" is this machine. What cannot be read sets no limit.
CpuBudget read_cpu_budget(CpuSet allowed, const std::string& root = "");

/// Of this process as it was started, read once.
const CpuBudget& cpu_budget();

/// CPU seconds per second that the cgroup of this process and those above it allow, the least of all: v2 cpu.max, v1
/// cpu.cfs_quota_us / cpu.cfs_period_us. 0: no limit.
double cgroup_cpu_quota(const std::string& root = "");

/// Of `cpus`, one logical CPU per physical core, and only the fastest kind of core where they differ.
CpuSet fast_cores(const CpuSet& cpus, const std::string& root = "");

/// Threads and where they run, as the user asks for them.
struct ThreadOptions {
  int n = 0;            ///< 0: the budget decides
  CpuSet cpus = {};     ///< CPUs to stay on; empty: any
  bool strict = false;  ///< a CPU per thread, else each thread on any of `cpus`
};

/// The options with the number of threads decided: as asked for, else one per named CPU or fast core and not more than the
/// quota allows. Strict threads without named CPUs get the fast cores, or all CPUs when they are more. Fails with kInvalid when a named CPU is not in the budget.
Expected<ThreadOptions> plan_threads(ThreadOptions options, const CpuBudget& budget);

}  // namespace shoehorn
