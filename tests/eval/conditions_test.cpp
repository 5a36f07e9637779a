#include "eval/conditions.h"

#include <gtest/gtest.h>

#include <thread>

#include "eval/machine_tree.h"

namespace shoehorn::eval {
namespace {

std::string joined(const Conditions& c) { return fmt::format("{}", fmt::join(c.taints, "; ")); }

/// A quiet second on four CPUs.
struct Quiet {
  MachineState before, after;
  Quiet() {
    before.n_cpus = after.n_cpus = 4;
    before.busy_seconds = 100;
    before.own_seconds = 10;
    before.waiting_seconds = 5;
    before.throttle_events = 17;
    after = before;
    after.time = 1;
    after.own_seconds = 13.9;
    after.busy_seconds = 103.95;
    after.waiting_seconds = 5.02;
  }
};

TEST(Conditions, NothingIsSaidAgainstAQuietMachine) {
  const Quiet quiet;
  const Conditions c = conditions_between(quiet.before, quiet.after, {});
  EXPECT_EQ(joined(c), "");
  EXPECT_NEAR(*c.others_cpus, 0.05, 1e-9);
  EXPECT_NEAR(*c.waiting, 0.02, 1e-9);
  EXPECT_EQ(*c.throttle_events, 0u);
}

TEST(Conditions, OtherProgramsTaint) {
  Quiet busy;
  busy.after.busy_seconds = 105.4;
  EXPECT_EQ(joined(conditions_between(busy.before, busy.after, {})), "others used 1.5 of 4 CPUs");
}

TEST(Conditions, TicksThatMayBeOffDoNotTaintAShortRepetition) {
  Quiet shorter;
  shorter.after.time = 0.02;
  shorter.after.own_seconds = 10.07;
  shorter.after.waiting_seconds = 5;
  shorter.after.busy_seconds = 100.12;  // 2.5 CPUs, if one could count so finely
  EXPECT_EQ(joined(conditions_between(shorter.before, shorter.after, {})), "");
}

TEST(Conditions, WaitingForACpuAndAQuotaTaint) {
  Quiet crowded;
  crowded.after.waiting_seconds = 5.4;
  crowded.before.quota_seconds = 3;
  crowded.after.quota_seconds = 3.25;
  EXPECT_EQ(joined(conditions_between(crowded.before, crowded.after, {})),
            "tasks waited for a CPU 40 % of the time; the CPU quota held it for 250 ms");
}

TEST(Conditions, ThrottlingEventsTaint) {
  Quiet hot;
  hot.after.throttle_events = 20;
  EXPECT_EQ(joined(conditions_between(hot.before, hot.after, {})), "thermal throttling (3 events)");
}

TEST(Conditions, TheRaspberryPisFlagsTaintWhileTheyAreSetAndWhenTheyCameAndWent) {
  Quiet pi;
  pi.before.pi_flags = 0x50000;  // since boot, not now
  pi.after.pi_flags = 0x50000;
  EXPECT_EQ(joined(conditions_between(pi.before, pi.after, {})), "");
  MachineState between;
  between.pi_flags = 0x50006;
  EXPECT_EQ(joined(conditions_between(pi.before, pi.after, {&between, 1})), "frequency capped, throttled");
  between.pi_flags = 0x70000;  // seen, and cleared by looking
  EXPECT_EQ(joined(conditions_between(pi.before, pi.after, {&between, 1})), "frequency capped");
  pi.after.pi_flags = 0xd0000;
  const Conditions c = conditions_between(pi.before, pi.after, {});
  EXPECT_EQ(joined(c), "soft temperature limit");
  EXPECT_EQ(*c.pi_flags, 0xd0000u);
}

TEST(Conditions, TemperatureIsTheHottestAndFrequencyTheMeanWhileItRan) {
  Quiet run;
  run.before.temperature_c = 41;
  run.before.mhz = 600;  // idle
  std::vector<MachineState> between(2);
  between[0].temperature_c = 62;
  between[0].mhz = 2400;
  between[1].temperature_c = 70;
  between[1].mhz = 2200;
  run.after.temperature_c = 69;
  run.after.mhz = 900;
  const Conditions c = conditions_between(run.before, run.after, between);
  EXPECT_EQ(*c.temperature_c, 70);
  EXPECT_EQ(*c.mhz, 2300);
  EXPECT_EQ(*conditions_between(run.before, run.after, {}).mhz, 900)
      << "a repetition that is too short to be looked into";
}

TEST(Conditions, WhatTheSystemDoesNotSayIsAbsent) {
  MachineState before, after;
  after.time = 1;
  const Conditions c = conditions_between(before, after, {});
  EXPECT_FALSE(c.temperature_c || c.mhz || c.throttle_events || c.pi_flags || c.others_cpus || c.waiting);
  EXPECT_TRUE(c.taints.empty());
}

TEST(Conditions, ARepetitionThatIsSlowerThanTheFastestByFrequencyIsTainted) {
  std::vector<Conditions> repetitions(4);
  repetitions[0].mhz = 2400;
  repetitions[1].mhz = 2390;
  repetitions[2].mhz = 1800;
  std::vector<Conditions*> all;
  for (Conditions& c : repetitions) all.push_back(&c);
  taint_frequency_drops(all);
  EXPECT_EQ(joined(repetitions[0]) + joined(repetitions[1]) + joined(repetitions[3]), "");
  EXPECT_EQ(joined(repetitions[2]), "frequency fell to 1800 of 2400 MHz");
}

/// A laptop with two packages of two CPUs each, so that their counters can be told apart.
class Laptop : public test::MachineTree {
 public:
  Laptop() {
    for (int i = 0; i < 4; ++i) {
      const std::string cpu = "/sys/devices/system/cpu/cpu" + std::to_string(i);
      file(cpu + "/cpufreq/scaling_cur_freq", i < 2 ? "3600000" : "800000");
      file(cpu + "/topology/physical_package_id", i < 2 ? "0" : "1");
      file(cpu + "/thermal_throttle/core_throttle_count", "3");
      file(cpu + "/thermal_throttle/package_throttle_count", i < 2 ? "100" : "1000");
    }
    file("/sys/devices/system/cpu/cpufreq/boost", "1");
    file("/sys/class/thermal/thermal_zone0/type", "acpitz");
    file("/sys/class/thermal/thermal_zone0/temp", "99000");
    file("/sys/class/thermal/thermal_zone1/type", "x86_pkg_temp");
    file("/sys/class/thermal/thermal_zone1/temp", "71500");
    file("/proc/pressure/cpu",
         "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0");
    stat(1000);
    file("/proc/self/cgroup", "0::/box");
    file("/proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw");
    file("/sys/fs/cgroup/box/cpu.stat", "usage_usec 100\nnr_periods 10\nnr_throttled 2\nthrottled_usec 750000");
  }
  void stat(int user_ticks) {
    file("/proc/stat",
         fmt::format("cpu  {} 100 300 90000 500 20 30 50 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n"
                     "cpu2 1 1 1 1 1 1 1 1 0 0\ncpu3 1 1 1 1 1 1 1 1 0 0\nintr 1 2 3\nctxt 5",
                     user_ticks));
  }
};

TEST(MachineProbe, ReadsWhatTheKernelSays) {
  const Laptop laptop;
  const MachineState state = MachineProbe(laptop.host(), 2).read();
  EXPECT_EQ(*state.mhz, 3600) << "of the CPUs that two threads use";
  EXPECT_EQ(*MachineProbe(laptop.host(), 4).read().mhz, 2200);
  EXPECT_EQ(*state.temperature_c, 71.5);
  EXPECT_EQ(*state.throttle_events, 4 * 3u + 100 + 1000) << "a package's counter is shown by each of its CPUs";
  EXPECT_EQ(*state.waiting_seconds, 2.5);
  EXPECT_EQ(*state.quota_seconds, 0.75);
  EXPECT_EQ(state.n_cpus, 4);
  EXPECT_NEAR(*state.busy_seconds, 1500.0 / static_cast<double>(sysconf(_SC_CLK_TCK)), 1e-9)
      << "idle and waiting for disks is not busy";
  EXPECT_FALSE(state.pi_flags.has_value());
  EXPECT_GT(state.own_seconds, 0);
}

TEST(MachineProbe, AsksARaspberryPisFirmware) {
  test::MachineTree pi;
  pi.file("/proc/device-tree/model", std::string("Raspberry Pi 4 Model B Rev 1.4") + '\0');
  pi.file("/sys/class/thermal/thermal_zone0/type", "cpu-thermal");
  pi.file("/sys/class/thermal/thermal_zone0/temp", "80315");
  pi.vcgencmd("get_throttled", "throttled=0xe0008");
  const MachineProbe by_program(pi.host(), 4);
  EXPECT_EQ(by_program.read().pi_flags, 0xe0008u);
  EXPECT_EQ(by_program.read_quickly().pi_flags, std::nullopt) << "a program was started while the model ran";
  EXPECT_EQ(*by_program.read().temperature_c, 80.315);
  pi.file("/sys/devices/platform/soc/soc:firmware/get_throttled", "50005");
  EXPECT_EQ(MachineProbe(pi.host(), 4).read_quickly().pi_flags, 0x50005u);
}

TEST(MachineProbe, AnEmptyMachineSaysNothing) {
  const test::MachineTree empty;
  const MachineState state = MachineProbe(empty.host(), 4).read();
  EXPECT_FALSE(state.mhz || state.temperature_c || state.throttle_events || state.waiting_seconds ||
               state.quota_seconds || state.busy_seconds || state.pi_flags);
}

TEST(ConditionMonitor, SeesWhatHappensBetweenBeginAndEnd) {
  Laptop laptop;
  ConditionMonitor monitor(MachineProbe(laptop.host(), 2));
  Conditions hot;
  // On a busy machine the thread that looks may be late.
  for (int i = 0; i < 20 && hot.temperature_c.value_or(0) != 97; ++i) {
    laptop.file("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3");
    laptop.stat(1000);
    monitor.begin();
    laptop.file("/sys/class/thermal/thermal_zone1/temp", "97000");
    std::this_thread::sleep_for(std::chrono::milliseconds(450));
    laptop.file("/sys/class/thermal/thermal_zone1/temp", "80000");
    laptop.file("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "5");
    laptop.stat(9000);
    hot = monitor.end();
  }
  EXPECT_EQ(*hot.temperature_c, 97) << "the temperature between begin and end was not seen";
  EXPECT_EQ(*hot.throttle_events, 2u);
  EXPECT_GT(*hot.others_cpus, 1.5);
  EXPECT_EQ(hot.taints.size(), 2u) << joined(hot);
  monitor.begin();
  const Conditions calm = monitor.end();
  EXPECT_EQ(*calm.temperature_c, 80) << "what was before has been kept";
  EXPECT_EQ(joined(calm), "");
}

}  // namespace
}  // namespace shoehorn::eval
