// The state of the machine while something is timed, and what makes a timing doubtful.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "eval/sysfs.h"

namespace shoehorn::eval {

/// What the system says at a moment. Absent: it does not say.
struct MachineState {
  double time = 0;         ///< seconds of a steady clock
  double own_seconds = 0;  ///< CPU time of this process
  std::optional<double>
      busy_seconds;  ///< CPU time of all processes and, of a virtual machine, what the host took (steal)
  std::optional<double> waiting_seconds;    ///< time in which some task had to wait for a CPU (PSI)
  std::optional<double> quota_seconds;      ///< time for which a CPU quota of the control group held this process
  std::optional<uint64_t> throttle_events;  ///< of all cores and packages, since boot (x86)
  std::optional<uint32_t> pi_flags;         ///< Raspberry Pi's get_throttled
  std::optional<double> temperature_c;      ///< the hottest sensor of the processor
  std::optional<double> mhz;                ///< mean of the n_threads fastest CPUs
  int n_cpus = 1;
};

/// Conditions of one repetition.
struct Conditions {
  std::optional<double> temperature_c;      ///< hottest
  std::optional<double> mhz;                ///< mean
  std::optional<uint64_t> throttle_events;  ///< that came meanwhile
  std::optional<uint32_t> pi_flags;         ///< all that were set
  std::optional<double> others_cpus;        ///< CPUs that others kept busy, on average
  std::optional<double> waiting;            ///< share of the time in which some task had to wait for a CPU
  std::vector<std::string> taints;          ///< why its timing is doubtful; empty: nothing is known against it
};

/// Raspberry Pi's flags in words: bits 0-3 now, 16-19 since boot. Source: raspberrypi.com/documentation, vcgencmd
/// get_throttled.
std::string describe_pi_flags(uint32_t flags);

/// Compares the states before and after; `between` are more states, for what goes up and down.
Conditions conditions_between(const MachineState& before, const MachineState& after,
                              std::span<const MachineState> between);

/// Taints those whose frequency is below 95 % of the highest of all.
void taint_frequency_drops(std::span<Conditions* const> repetitions);

/// Reads the state of a machine. Finds its files once.
class MachineProbe {
 public:
  MachineProbe(Host host, int n_threads);
  /// Everything; on a Raspberry Pi without the file in sysfs, this starts vcgencmd.
  MachineState read() const;
  /// Only temperature, frequency and, where they are in a file, the Pi's flags: some 10 us per CPU.
  MachineState read_quickly() const;

 private:
  std::optional<uint32_t> pi_flags(bool quickly) const;

  Host host_;
  int n_threads_;
  bool ask_vcgencmd_ = false;
  std::string pi_flags_file_;
  std::vector<std::string> temperatures_, frequencies_, throttle_counters_, quota_files_;
};

/// Watches the machine during repetitions, with a thread that reads some states between begin and end.
class ConditionMonitor {
 public:
  explicit ConditionMonitor(MachineProbe probe);
  ~ConditionMonitor();
  ConditionMonitor(const ConditionMonitor&) = delete;
  ConditionMonitor& operator=(const ConditionMonitor&) = delete;

  void begin();
  Conditions end();

 private:
  MachineProbe probe_;
  MachineState before_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  bool watching_ = false;
  std::vector<MachineState> between_;
  std::jthread thread_;
};

}  // namespace shoehorn::eval
