#include "base/memory.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <string_view>

#include "base/cgroup.h"

namespace shoehorn {
namespace {

uint64_t read_number(const std::string& path, uint64_t fallback) {
  std::ifstream in(path);
  uint64_t value = 0;
  return in >> value ? value : fallback;
}

/// The sum of the lines "KEY NUMBER" whose key is one of `keys`.
uint64_t sum_of(const std::string& path, std::initializer_list<std::string_view> keys) {
  uint64_t sum = 0, value = 0;
  std::ifstream in(path);
  for (std::string key; in >> key >> value;) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) sum += value;
  }
  return sum;
}

/// UINT64_MAX when the group has none.
uint64_t limit_of(const CgroupDirectory& group) {
  return read_number(group.path + (group.v2 ? "/memory.max" : "/memory.limit_in_bytes"), UINT64_MAX);
}

/// What a group has left below its limit; UINT64_MAX when it has no limit.
uint64_t left_in(const CgroupDirectory& group) {
  const uint64_t limit = limit_of(group);
  if (limit == UINT64_MAX) return UINT64_MAX;
  const uint64_t used = read_number(group.path + (group.v2 ? "/memory.current" : "/memory.usage_in_bytes"), 0);
  const std::string stat = group.path + "/memory.stat";
  const uint64_t cache = group.v2 ? sum_of(stat, {"active_file", "inactive_file"})
                                  : sum_of(stat, {"total_active_file", "total_inactive_file"});
  const uint64_t held = used - std::min(used, cache);
  return limit - std::min(limit, held);
}

/// A line of /proc/meminfo in bytes; UINT64_MAX when it is not there.
uint64_t meminfo(const std::string& root, std::string_view wanted) {
  std::ifstream in(root + "/proc/meminfo");
  for (std::string key, unit; in >> key;) {
    uint64_t kib = 0;
    if (!(in >> kib)) break;
    std::getline(in, unit);
    if (key == wanted) return kib * 1024;
  }
  return UINT64_MAX;
}

}  // namespace

uint64_t memory_limit(const std::string& root) {
  uint64_t limit = meminfo(root, "MemTotal:");
  for (const CgroupDirectory& group : cgroup_directories("memory", root)) limit = std::min(limit, limit_of(group));
  return limit;
}

uint64_t available_memory(const std::string& root) {
  uint64_t available = meminfo(root, "MemAvailable:");
  for (const CgroupDirectory& group : cgroup_directories("memory", root)) available = std::min(available, left_in(group));
  return available;
}

bool has_swap(const std::string& root) { return meminfo(root, "SwapTotal:") > 0; }

uint64_t peak_resident_bytes() {
  struct rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<uint64_t>(usage.ru_maxrss) * 1024 : 0;
}

uint64_t storage_bytes_read() {
  std::ifstream file("/proc/self/io");
  std::string key;
  uint64_t value = 0;
  while (file >> key >> value) {
    if (key == "read_bytes:") return value;
  }
  return 0;
}

std::string format_bytes(uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes >= uint64_t{1} << 30) return fmt::format("{:.2f} GiB", value / (1 << 30));
  if (bytes >= uint64_t{1} << 20) return fmt::format("{:.2f} MiB", value / (1 << 20));
  if (bytes >= uint64_t{1} << 10) return fmt::format("{:.1f} KiB", value / (1 << 10));
  return fmt::format("{} bytes", bytes);
}

}  // namespace shoehorn
