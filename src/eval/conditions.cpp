#include "eval/conditions.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <initializer_list>
#include <sstream>
#include <string_view>

#include "base/cgroup.h"
#include "base/subprocess.h"

namespace shoehorn::eval {
namespace {

// A timing is doubtful beyond these.
constexpr double kOthersShare = 0.05;     // of the machine's CPUs
constexpr double kWaitingShare = 0.10;    // of the time
constexpr double kQuotaShare = 0.01;      // of the time
constexpr double kFrequencyShare = 0.95;  // of the highest seen

constexpr uint32_t kPiNow = 0xf;
constexpr int kPiSinceBoot = 16;
constexpr auto kInterval = std::chrono::milliseconds(200);

double tick_seconds() { return 1.0 / static_cast<double>(sysconf(_SC_CLK_TCK)); }

double own_cpu_seconds() {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// /proc/stat's first line: cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL ...; and a line cpuN for each CPU.
void read_stat(const std::string& path, MachineState& state) {
  const auto text = read_small_file(path);
  if (!text) return;
  std::istringstream in(*text);
  std::string key;
  std::array<double, 8> ticks = {};
  if (!(in >> key) || key != "cpu") return;
  for (double& t : ticks) {
    if (!(in >> t)) return;
  }
  state.busy_seconds = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6] + ticks[7]) * tick_seconds();
  int n = 0;
  for (std::string line; std::getline(in, line);) n += line.starts_with("cpu") ? 1 : 0;
  state.n_cpus = std::max(1, n);
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=239774652", microseconds.
std::optional<double> read_pressure(const std::string& path) {
  const auto text = read_small_file(path);
  if (!text || !text->starts_with("some")) return std::nullopt;
  const size_t at = text->find("total=");
  if (at == std::string::npos) return std::nullopt;
  uint64_t total = 0;
  if (std::from_chars(text->data() + at + 6, text->data() + text->size(), total).ec != std::errc()) return std::nullopt;
  return 1e-6 * static_cast<double>(total);
}

/// cgroup v2: "throttled_usec N", v1: "throttled_time N" in nanoseconds.
double read_quota(const std::string& path) {
  std::istringstream in(read_small_file(path).value_or(""));
  std::string key;
  for (double value = 0; in >> key >> value;) {
    if (key == "throttled_usec") return 1e-6 * value;
    if (key == "throttled_time") return 1e-9 * value;
  }
  return 0;
}

std::optional<uint32_t> parse_hexadecimal(std::string_view text) {
  if (text.starts_with("throttled=")) text.remove_prefix(10);
  if (text.starts_with("0x")) text.remove_prefix(2);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool contains_any(const std::string& text, std::initializer_list<std::string_view> parts) {
  return std::ranges::any_of(parts, [&](std::string_view part) { return text.find(part) != std::string::npos; });
}

/// Sensors of the processor, in thousandths of a degree: thermal zones of its kinds, else the hwmon drivers of
/// processors.
std::vector<std::string> temperature_files(const std::string& root) {
  std::vector<std::string> files;
  for (const std::string& zone : entries_of(root + "/sys/class/thermal", "thermal_zone")) {
    std::string type = read_small_file(zone + "/type").value_or("");
    for (char& c : type) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
    if (contains_any(type, {"cpu", "soc", "x86_pkg_temp", "cluster", "bigcore", "littlecore"}))
      files.push_back(zone + "/temp");
  }
  if (!files.empty()) return files;
  for (const std::string& chip : entries_of(root + "/sys/class/hwmon", "hwmon")) {
    if (!contains_any(read_small_file(chip + "/name").value_or(""),
                      {"coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"}))
      continue;
    for (const std::string& file : entries_of(chip, "temp")) {
      if (file.ends_with("_input")) files.push_back(file);
    }
  }
  return files;
}

template <class T>
std::optional<T> difference(const std::optional<T>& before, const std::optional<T>& after) {
  if (!before || !after || *after < *before) return std::nullopt;
  return *after - *before;
}

}  // namespace

std::string describe_pi_flags(uint32_t flags) {
  static constexpr std::array<const char*, 4> kMeanings = {"under-voltage", "frequency capped", "throttled",
                                                           "soft temperature limit"};
  std::string text;
  for (size_t bit = 0; bit < kMeanings.size(); ++bit) {
    if ((flags >> bit & 1) != 0) text += (text.empty() ? "" : ", ") + std::string(kMeanings[bit]);
  }
  return text;
}

Conditions conditions_between(const MachineState& before, const MachineState& after,
                              std::span<const MachineState> between) {
  Conditions c;
  const double elapsed = std::max(after.time - before.time, 1e-9);
  double mhz = 0;
  int n_mhz = 0;
  uint32_t flags = 0, previous = before.pi_flags.value_or(0), since_boot = 0;
  const auto look_at = [&](const MachineState& state, bool frequency) {
    if (state.temperature_c) c.temperature_c = std::max(c.temperature_c.value_or(-273.15), *state.temperature_c);
    if (state.pi_flags) {
      // What came and went between two looks is left in its "since boot" bit, which a look may clear.
      flags |= *state.pi_flags;
      since_boot |= (*state.pi_flags & ~previous) >> kPiSinceBoot;
      previous = *state.pi_flags;
    }
    if (!frequency || !state.mhz) return;
    mhz += *state.mhz;
    ++n_mhz;
  };
  // Before the work begins a CPU may still be slow from idling.
  look_at(before, false);
  for (const MachineState& state : between) look_at(state, true);
  look_at(after, n_mhz == 0);
  if (n_mhz > 0) c.mhz = mhz / n_mhz;

  c.throttle_events = difference(before.throttle_events, after.throttle_events);
  if (c.throttle_events.value_or(0) > 0)
    c.taints.push_back(fmt::format("thermal throttling ({} events)", *c.throttle_events));

  if (before.pi_flags || after.pi_flags) {
    c.pi_flags = flags;
    if (const uint32_t during = (flags | since_boot) & kPiNow) c.taints.push_back(describe_pi_flags(during));
  }

  if (const auto busy = difference(before.busy_seconds, after.busy_seconds)) {
    const double others = std::max(0.0, *busy - (after.own_seconds - before.own_seconds));
    c.others_cpus = others / elapsed;
    // Counted in ticks: each CPU may be off by one at both ends.
    const double error = 2 * tick_seconds() * after.n_cpus;
    if (others - error > kOthersShare * after.n_cpus * elapsed)
      c.taints.push_back(fmt::format("others used {:.1f} of {} CPUs", *c.others_cpus, after.n_cpus));
  }
  if (const auto waiting = difference(before.waiting_seconds, after.waiting_seconds)) {
    c.waiting = std::min(1.0, *waiting / elapsed);
    if (*c.waiting > kWaitingShare)
      c.taints.push_back(fmt::format("tasks waited for a CPU {:.0f} % of the time", 100 * *c.waiting));
  }
  if (const auto held = difference(before.quota_seconds, after.quota_seconds); held && *held > kQuotaShare * elapsed)
    c.taints.push_back(fmt::format("the CPU quota held it for {:.0f} ms", 1e3 * *held));
  return c;
}

void taint_frequency_drops(std::span<Conditions* const> repetitions) {
  double highest = 0;
  for (const Conditions* c : repetitions) highest = std::max(highest, c->mhz.value_or(0));
  for (Conditions* c : repetitions) {
    if (c->mhz && *c->mhz < kFrequencyShare * highest)
      c->taints.push_back(fmt::format("frequency fell to {:.0f} of {:.0f} MHz", *c->mhz, highest));
  }
}

MachineProbe::MachineProbe(Host host, int n_threads) : host_(std::move(host)), n_threads_(std::max(1, n_threads)) {
  temperatures_ = temperature_files(host_.root);
  const std::string cpus = host_.root + "/sys/devices/system/cpu";
  std::vector<std::string> packages;
  for (const std::string& cpu : entries_of(cpus, "cpu")) {
    if (read_small_file(cpu + "/cpufreq/scaling_cur_freq")) frequencies_.push_back(cpu + "/cpufreq/scaling_cur_freq");
    if (read_small_file(cpu + "/thermal_throttle/core_throttle_count"))
      throttle_counters_.push_back(cpu + "/thermal_throttle/core_throttle_count");
    // Every CPU of a package shows the package's counter.
    const std::string package = read_small_file(cpu + "/topology/physical_package_id").value_or("0"),
                      counter = cpu + "/thermal_throttle/package_throttle_count";
    if (std::ranges::find(packages, package) == packages.end() && read_small_file(counter)) {
      packages.push_back(package);
      throttle_counters_.push_back(counter);
    }
  }
  for (const CgroupDirectory& group : cgroup_directories("cpu", host_.root)) {
    if (read_small_file(group.path + "/cpu.stat")) quota_files_.push_back(group.path + "/cpu.stat");
  }
  if (read_small_file(host_.root + "/proc/device-tree/model").value_or("").find("Raspberry Pi") != std::string::npos) {
    pi_flags_file_ = host_.root + "/sys/devices/platform/soc/soc:firmware/get_throttled";
    if (!read_small_file(pi_flags_file_)) {
      pi_flags_file_.clear();
      ask_vcgencmd_ = true;
    }
  }
}

std::optional<uint32_t> MachineProbe::pi_flags(bool quickly) const {
  if (!pi_flags_file_.empty()) {
    const auto text = read_small_file(pi_flags_file_);
    return text ? parse_hexadecimal(*text) : std::nullopt;
  }
  if (!ask_vcgencmd_ || quickly) return std::nullopt;
  const auto text = run_program({host_.vcgencmd, "get_throttled"}, std::chrono::seconds(1));
  return text ? parse_hexadecimal(*text) : std::nullopt;
}

MachineState MachineProbe::read_quickly() const {
  MachineState state;
  for (const std::string& file : temperatures_) {
    if (const auto milli = read_number_file(file))
      state.temperature_c = std::max(state.temperature_c.value_or(-273.15), *milli * 1e-3);
  }
  std::vector<double> khz;
  for (const std::string& file : frequencies_) {
    if (const auto value = read_number_file(file)) khz.push_back(*value);
  }
  if (!khz.empty()) {
    std::ranges::sort(khz, std::greater<>());
    const size_t n = std::min(khz.size(), static_cast<size_t>(n_threads_));
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += khz[i];
    state.mhz = sum / static_cast<double>(n) * 1e-3;
  }
  state.pi_flags = pi_flags(true);
  return state;
}

MachineState MachineProbe::read() const {
  MachineState state = read_quickly();
  state.pi_flags = pi_flags(false);
  for (const std::string& file : throttle_counters_) {
    if (const auto count = read_number_file(file))
      state.throttle_events = state.throttle_events.value_or(0) + static_cast<uint64_t>(*count);
  }
  for (const std::string& file : quota_files_)
    state.quota_seconds = std::max(state.quota_seconds.value_or(0), read_quota(file));
  state.waiting_seconds = read_pressure(host_.root + "/proc/pressure/cpu");
  read_stat(host_.root + "/proc/stat", state);
  state.own_seconds = own_cpu_seconds();
  state.time = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  return state;
}

ConditionMonitor::ConditionMonitor(MachineProbe probe) : probe_(std::move(probe)) {
  thread_ = std::jthread([this](const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (wake_.wait(lock, stop, [this] { return watching_; })) {
      wake_.wait_for(lock, stop, kInterval, [this] { return !watching_; });
      if (watching_ && !stop.stop_requested()) between_.push_back(probe_.read_quickly());
    }
  });
}

ConditionMonitor::~ConditionMonitor() = default;

void ConditionMonitor::begin() {
  before_ = probe_.read();
  {
    const std::lock_guard lock(mutex_);
    between_.clear();
    watching_ = true;
  }
  wake_.notify_all();
}

Conditions ConditionMonitor::end() {
  const MachineState after = probe_.read();
  {
    const std::lock_guard lock(mutex_);
    watching_ = false;
  }
  wake_.notify_all();
  return conditions_between(before_, after, between_);
}

}  // namespace shoehorn::eval
