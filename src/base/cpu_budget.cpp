#include "base/cpu_budget.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "base/cgroup.h"

namespace shoehorn {
namespace {

std::optional<std::string> read_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

std::optional<double> read_number(const std::string& path) {
  std::ifstream in(path);
  double value = 0;
  if (!(in >> value)) return std::nullopt;
  return value;
}

/// The quota of one group, nothing when it has none.
std::optional<double> group_quota(const CgroupDirectory& directory) {
  double quota = 0, period = 0;
  if (directory.v2) {
    const auto line = read_line(directory.path + "/cpu.max");
    if (!line) return std::nullopt;
    std::istringstream in(*line);
    if (!(in >> quota >> period)) return std::nullopt;  // "max 100000"
  } else {
    quota = read_number(directory.path + "/cpu.cfs_quota_us").value_or(-1);
    period = read_number(directory.path + "/cpu.cfs_period_us").value_or(0);
  }
  if (quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

/// One logical CPU of each physical core.
CpuSet without_siblings(const CpuSet& cpus, const std::string& cpu_directory) {
  CpuSet out, covered;
  for (const int cpu : cpus) {
    if (std::binary_search(covered.begin(), covered.end(), cpu)) continue;
    out.push_back(cpu);
    const std::string topology = fmt::format("{}/cpu{}/topology", cpu_directory, cpu);
    auto siblings = read_line(topology + "/core_cpus_list");
    if (!siblings) siblings = read_line(topology + "/thread_siblings_list");
    if (siblings) covered = unite(covered, parse_cpu_list(*siblings));
  }
  return out;
}

/// The CPUs whose figure in `file` is at least `share` of the largest. Nothing when one of them has no figure.
std::optional<CpuSet> near_the_best(const CpuSet& cpus, const std::string& cpu_directory, const char* file, double share) {
  std::vector<double> figures;
  for (const int cpu : cpus) {
    const auto figure = read_number(fmt::format("{}/cpu{}/{}", cpu_directory, cpu, file));
    if (!figure || *figure <= 0) return std::nullopt;
    figures.push_back(*figure);
  }
  const double best = *std::max_element(figures.begin(), figures.end());
  CpuSet out;
  for (size_t i = 0; i < cpus.size(); ++i) {
    if (figures[i] >= share * best) out.push_back(cpus[i]);
  }
  return out;
}

}  // namespace

double cgroup_cpu_quota(const std::string& root) {
  // A group is held to the quotas of all groups above it too.
  double least = 0;
  for (const CgroupDirectory& directory : cgroup_directories("cpu", root)) {
    const auto quota = group_quota(directory);
    if (quota && (least == 0 || *quota < least)) least = *quota;
  }
  return least;
}

CpuSet fast_cores(const CpuSet& cpus, const std::string& root) {
  const std::string directory = root + "/sys/devices/system/cpu";
  CpuSet fast = cpus;
  // Hybrid x86: the kernel has a performance monitor per kind of core, which names its CPUs.
  if (const auto big = read_line(root + "/sys/devices/cpu_core/cpus")) {
    if (CpuSet of_these = intersect(cpus, parse_cpu_list(*big)); !of_these.empty()) fast = std::move(of_these);
  }
  // Capacity is work per second, so a core of the same kind with a lower clock (a phone's prime core and its neighbours: 0.8)
  // stays in, and little ones (A55 beside A76: 0.4, A53 beside A72: 0.47) fall out. Where the kernel knows only clocks, those
  // of equal cores differ by a few percent (preferred cores), those of small ones by more (Zen 5c beside Zen 5: 0.65).
  auto best = near_the_best(fast, directory, "cpu_capacity", 0.65);
  if (!best) best = near_the_best(fast, directory, "cpufreq/cpuinfo_max_freq", 0.8);
  return without_siblings(best ? *best : fast, directory);
}

int CpuBudget::default_threads() const {
  auto n = static_cast<int>(fast.size());
  if (quota > 0 && quota < n) n = static_cast<int>(std::ceil(quota));
  return std::max(1, n);
}

CpuBudget read_cpu_budget(CpuSet allowed, const std::string& root) {
  CpuBudget budget;
  budget.fast = fast_cores(allowed, root);
  budget.allowed = std::move(allowed);
  budget.quota = cgroup_cpu_quota(root);
  return budget;
}

const CpuBudget& cpu_budget() {
  static const CpuBudget budget = read_cpu_budget(thread_affinity());
  return budget;
}

Expected<ThreadOptions> plan_threads(ThreadOptions options, const CpuBudget& budget) {
  for (const int cpu : options.cpus) {
    if (!std::binary_search(budget.allowed.begin(), budget.allowed.end(), cpu)) {
      return fail(ErrorCode::kInvalid, "CPU {} is not one of those that this process may use ({})", cpu,
                  format_cpu_list(budget.allowed));
    }
  }
  if (options.strict && options.cpus.empty()) {
    options.cpus = options.n > static_cast<int>(budget.fast.size()) ? budget.allowed : budget.fast;
  }
  if (options.n <= 0) {
    CpuBudget chosen = budget;
    if (!options.cpus.empty()) chosen.fast = options.cpus;
    options.n = chosen.default_threads();
  }
  return options;
}

}  // namespace shoehorn
