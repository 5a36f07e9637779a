#include "base/cpu_set.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>

namespace shoehorn {
namespace {

std::optional<int> parse_cpu(std::string_view text) {
  int cpu = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpu);
  if (error != std::errc() || end != text.data() + text.size() || cpu < 0 || cpu >= kMaxCpus) return std::nullopt;
  return cpu;
}

/// "4" or "4-7"; nothing when it is neither.
std::optional<CpuSet> parse_span(std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = parse_cpu(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : parse_cpu(text.substr(dash + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  CpuSet cpus;
  for (int cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
  return cpus;
}

/// A mask of the kernel's for CPUs 0 to n - 1, which may be more than cpu_set_t has bits.
struct KernelMask {
  explicit KernelMask(int n) : size(CPU_ALLOC_SIZE(n)), bits(CPU_ALLOC(n), [](cpu_set_t* set) { CPU_FREE(set); }) {
    CPU_ZERO_S(size, bits.get());
  }
  size_t size;
  std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> bits;
};

}  // namespace

Expected<CpuSet> parse_cpu_mask(std::string_view hex) {
  std::string_view digits = hex;
  if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2);
  CpuSet cpus;
  for (size_t i = digits.size(); i-- > 0;) {
    int value = 0;
    const auto [end, error] = std::from_chars(&digits[i], &digits[i] + 1, value, 16);
    if (error != std::errc()) {
      return fail(ErrorCode::kInvalid, "\"{}\" is not a hexadecimal CPU mask such as 0xf0 (CPUs 4 to 7)", hex);
    }
    for (int bit = 0; bit < 4; ++bit) {
      if ((value >> bit & 1) == 0) continue;
      const size_t cpu = (digits.size() - 1 - i) * 4 + static_cast<size_t>(bit);
      if (cpu >= kMaxCpus) return fail(ErrorCode::kInvalid, "the CPU mask names CPU {}; the limit is {}", cpu, kMaxCpus - 1);
      cpus.push_back(static_cast<int>(cpu));
    }
  }
  if (cpus.empty()) return fail(ErrorCode::kInvalid, "the CPU mask \"{}\" names no CPU", hex);
  return cpus;
}

Expected<CpuSet> parse_cpu_range(std::string_view range) {
  auto cpus = range.find('-') == std::string_view::npos ? std::nullopt : parse_span(range);
  if (!cpus) return fail(ErrorCode::kInvalid, "\"{}\" is not a CPU range LO-HI (0 to {})", range, kMaxCpus - 1);
  return std::move(*cpus);
}

CpuSet parse_cpu_list(std::string_view list) {
  while (!list.empty() && (list.back() == '\n' || list.back() == ' ')) list.remove_suffix(1);
  CpuSet cpus;
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const auto span = parse_span(list.substr(begin, end - begin));
    if (!span) return {};
    cpus = unite(cpus, *span);
    begin = end + 1;
  }
  return cpus;
}

std::string format_cpu_list(const CpuSet& cpus) {
  std::string out;
  for (size_t i = 0; i < cpus.size();) {
    size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!out.empty()) out += ',';
    out += last == i ? fmt::format("{}", cpus[i]) : fmt::format("{}-{}", cpus[i], cpus[last]);
    i = last + 1;
  }
  return out;
}

CpuSet intersect(const CpuSet& a, const CpuSet& b) {
  CpuSet out;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out));
  return out;
}

CpuSet unite(const CpuSet& a, const CpuSet& b) {
  CpuSet out;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out));
  return out;
}

CpuSet thread_affinity() {
  const KernelMask mask(kMaxCpus);
  if (sched_getaffinity(0, mask.size, mask.bits.get()) != 0) return {0};
  CpuSet cpus;
  for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
    if (CPU_ISSET_S(cpu, mask.size, mask.bits.get())) cpus.push_back(cpu);
  }
  return cpus;
}

Status set_thread_affinity(const CpuSet& cpus) {
  const KernelMask mask(kMaxCpus);
  for (const int cpu : cpus) CPU_SET_S(cpu, mask.size, mask.bits.get());
  if (sched_setaffinity(0, mask.size, mask.bits.get()) != 0) {
    return fail(ErrorCode::kIo, "cannot run on CPUs {}: {}", format_cpu_list(cpus), std::strerror(errno));
  }
  return {};
}

}  // namespace shoehorn
