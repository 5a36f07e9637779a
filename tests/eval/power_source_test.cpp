// Power sources on trees as the kernel shows them on real machines.
#include "eval/power_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/machine_tree.h"

namespace shoehorn::eval {
namespace {

/// Two sockets, each with its cores and memory as subzones, and the platform's counter beside them.
class Server : public test::MachineTree {
 public:
  Server() {
    zone("intel-rapl:0", "package-0", "1000000");
    zone("intel-rapl:0:0", "core", "900000");
    zone("intel-rapl:0:1", "dram", "300000");
    zone("intel-rapl:1", "package-1", "2000000");
    zone("intel-rapl:1:0", "core", "900000");
    zone("intel-rapl:2", "psys", "7000000");
    file("/sys/class/powercap/intel-rapl/enabled", "1");
  }
  void zone(const std::string& name, const std::string& domain, const std::string& energy_uj) {
    const std::string directory = "/sys/class/powercap/" + name;
    file(directory + "/name", domain);
    file(directory + "/max_energy_range_uj", "262143328850");
    file(directory + "/energy_uj", energy_uj);
  }
  void energy(const std::string& zone, const std::string& uj) {
    file("/sys/class/powercap/" + zone + "/energy_uj", uj);
  }
};

TEST(Rapl, AddsThePackagesAndNothingThatIsInsideOfThem) {
  Server server;
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", server.host()));
  EXPECT_EQ(opened.name, "rapl");
  EXPECT_EQ(opened.source->kind(), PowerSource::Kind::kCounter);
  EXPECT_EQ(opened.source->description(), "package-0 + package-1");
  EXPECT_EQ(*opened.source->read(), 0);
  server.energy("intel-rapl:0", "4500000");
  server.energy("intel-rapl:1", "2250000");
  for (const char* other : {"intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2"}) server.energy(other, "99000000");
  EXPECT_NEAR(*opened.source->read(), 3.5 + 0.25, 1e-9);
}

TEST(Rapl, GoesOnWhenACounterStartsOver) {
  Server server;
  server.energy("intel-rapl:0", "262143000000");
  ASSERT_EXPECTED(const auto opened, open_power_source("rapl", server.host()));
  server.energy("intel-rapl:0", "1671150");  // 328850 uJ to the end of the range, and on
  EXPECT_NEAR(*opened.source->read(), 2.0, 1e-9);
  server.energy("intel-rapl:0", "262143328849");  // almost once around
  EXPECT_NEAR(*opened.source->read(), 2.0 + 262141.657699, 1e-6);
  server.energy("intel-rapl:0", "999999");  // and over the end again
  EXPECT_NEAR(*opened.source->read(), 2.0 + 262141.657699 + 1.0, 1e-6);
}

TEST(Rapl, RefusesACounterThatFallsBelowItsRange) {
  Server server;
  ASSERT_EXPECTED(const auto opened, open_power_source("rapl", server.host()));
  server.energy("intel-rapl:0", "-5");
  const auto negative = opened.source->read();
  ASSERT_FALSE(negative.has_value());
  EXPECT_NE(negative.error().message.find("intel-rapl:0/energy_uj"), std::string::npos) << negative.error().message;
  server.energy("intel-rapl:0", "12 apples");
  EXPECT_FALSE(opened.source->read().has_value());
}

TEST(Rapl, CountsThePackageOnceWhenRegistersAndMemoryShowIt) {
  Server server;
  server.zone("intel-rapl-mmio:0", "package-0", "1000000");
  ASSERT_EXPECTED(const auto opened, open_power_source("rapl", server.host()));
  EXPECT_EQ(opened.source->description(), "package-0 + package-1");
  test::MachineTree fanless;
  fanless.file("/sys/class/powercap/intel-rapl-mmio:0/name", "package-0");
  fanless.file("/sys/class/powercap/intel-rapl-mmio:0/max_energy_range_uj", "262143328850");
  fanless.file("/sys/class/powercap/intel-rapl-mmio:0/energy_uj", "7");
  ASSERT_EXPECTED(const auto mmio, open_power_source("auto", fanless.host()));
  EXPECT_EQ(mmio.source->description(), "package-0");
}

/// As nobody where the test runs as root, whom permissions do not stop.
class AsNobody {
 public:
  AsNobody() { root_ = geteuid() == 0 && seteuid(65534) == 0; }
  ~AsNobody() {
    if (root_ && seteuid(0) != 0) std::abort();
  }

 private:
  bool root_ = false;
};

TEST(Rapl, TellsTheWayOutWhenTheCounterIsForRootOnly) {
  Server server;
  chmod(server.root().c_str(), 0755);
  for (const char* zone : {"intel-rapl:0", "intel-rapl:1"})
    chmod((server.root() + "/sys/class/powercap/" + zone + "/energy_uj").c_str(), 0400);
  if (geteuid() != 0) chmod((server.root() + "/sys/class/powercap/intel-rapl:0/energy_uj").c_str(), 0);
  const AsNobody nobody;
  const auto named = open_power_source("rapl", server.host());
  ASSERT_FALSE(named.has_value());
  for (const char* part :
       {"intel-rapl:0/energy_uj: Permission denied", "run as root", "sudo chmod a+r", "intel-rapl:*/energy_uj"}) {
    EXPECT_NE(named.error().message.find(part), std::string::npos) << named.error().message;
  }
  // Looking for any source is no failure, but it is told.
  ASSERT_EXPECTED(const auto any, open_power_source("auto", server.host()));
  EXPECT_EQ(any.source, nullptr);
  EXPECT_EQ(any.name, "");
  EXPECT_NE(any.trouble.find("Permission denied"), std::string::npos) << any.trouble;
}

TEST(Rapl, LeavesTheWordToTheNextSourceWhenItMayNotBeRead) {
  Server server;
  server.file("/sys/class/hwmon/hwmon0/name", "ina226");
  server.file("/sys/class/hwmon/hwmon0/power1_input", "5250000");
  chmod(server.root().c_str(), 0755);
  chmod((server.root() + "/sys/class/powercap/intel-rapl:0/energy_uj").c_str(), geteuid() == 0 ? 0400 : 0);
  const AsNobody nobody;
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", server.host()));
  EXPECT_EQ(opened.name, "hwmon");
  EXPECT_NEAR(*opened.source->read(), 5.25, 1e-9);
  EXPECT_NE(opened.trouble.find("Permission denied"), std::string::npos);
}

TEST(Hwmon, ReadsAnInaInTheSupplyLineAndNotTheGraphicsCard) {
  test::MachineTree board;
  board.file("/sys/class/hwmon/hwmon0/name", "amdgpu");
  board.file("/sys/class/hwmon/hwmon0/power1_average", "31000000");
  board.file("/sys/class/hwmon/hwmon1/name", "nvme");
  board.file("/sys/class/hwmon/hwmon1/temp1_input", "40850");
  board.file("/sys/class/hwmon/hwmon2/name", "ina219");
  board.file("/sys/class/hwmon/hwmon2/in0_input", "12");  // the shunt
  board.file("/sys/class/hwmon/hwmon2/in1_input", "5104");
  board.file("/sys/class/hwmon/hwmon2/curr1_input", "1210");
  board.file("/sys/class/hwmon/hwmon2/power1_input", "6180000");
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", board.host()));
  EXPECT_EQ(opened.name, "hwmon");
  EXPECT_EQ(opened.source->kind(), PowerSource::Kind::kPower);
  EXPECT_EQ(opened.source->description(), "ina219");
  EXPECT_NEAR(*opened.source->read(), 6.18, 1e-9);
}

TEST(Hwmon, MultipliesVoltageAndCurrentAndPassesOverShuntsAndUnusedChannels) {
  test::MachineTree board;
  const std::string chip = "/sys/class/hwmon/hwmon3/";
  board.file(chip + "name", "ina3221");
  for (int n = 1; n <= 7; ++n) board.file(chip + "in" + std::to_string(n) + "_input", n <= 3 ? "5000" : "20");
  for (int n = 1; n <= 4; ++n) board.file(chip + "curr" + std::to_string(n) + "_input", "400");
  board.file(chip + "in1_label", "5V0");
  board.file(chip + "in2_label", "NC");
  board.file(chip + "in3_label", "3V3");
  board.file(chip + "in3_enable", "0");
  board.file(chip + "in7_label", "sum of shunt voltages");
  ASSERT_EXPECTED(const auto opened, open_power_source("hwmon", board.host()));
  EXPECT_EQ(opened.source->description(), "ina3221 5V0");
  EXPECT_NEAR(*opened.source->read(), 2.0, 1e-9);
}

TEST(Hwmon, CountsTheEnergyOfSocketsWithoutTheirCores) {
  test::MachineTree epyc;
  const std::string chip = "/sys/class/hwmon/hwmon0/";
  epyc.file(chip + "name", "amd_energy");
  for (const auto& [n, label] :
       std::vector<std::pair<int, std::string>>{{1, "Ecore000"}, {2, "Ecore001"}, {3, "Esocket0"}, {4, "Esocket1"}}) {
    epyc.file(chip + "energy" + std::to_string(n) + "_label", label);
    epyc.file(chip + "energy" + std::to_string(n) + "_input", "500000000");
  }
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", epyc.host()));
  EXPECT_EQ(opened.source->kind(), PowerSource::Kind::kCounter);
  EXPECT_EQ(opened.source->description(), "amd_energy Esocket0 + amd_energy Esocket1");
  epyc.file(chip + "energy3_input", "512000000");
  epyc.file(chip + "energy4_input", "501000000");
  EXPECT_NEAR(*opened.source->read(), 13.0, 1e-9);
  epyc.file(chip + "energy3_input", "400000000");
  EXPECT_FALSE(opened.source->read().has_value()) << "a counter that fell was believed";
}

TEST(Jetson, TakesTheModulesInputOfAnOrinNotTheRailsBehindIt) {
  test::MachineTree orin;
  orin.file("/proc/device-tree/model", std::string("NVIDIA Jetson Orin NX Engineering Reference Developer Kit") + '\0');
  const std::string chip = "/sys/class/hwmon/hwmon4/";
  orin.file(chip + "name", "ina3221");
  const std::vector<std::array<std::string, 3>> rails = {
      {"VDD_IN", "19000", "420"}, {"VDD_CPU_GPU_CV", "19000", "120"}, {"VDD_SOC", "19000", "90"}};
  for (size_t n = 0; n < 3; ++n) {
    const std::string i = std::to_string(n + 1);
    orin.file(chip + "in" + i + "_label", rails[n][0]);
    orin.file(chip + "in" + i + "_input", rails[n][1]);
    orin.file(chip + "curr" + i + "_input", rails[n][2]);
  }
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", orin.host()));
  EXPECT_EQ(opened.name, "jetson");
  EXPECT_EQ(opened.source->description(), "ina3221 VDD_IN");
  EXPECT_NEAR(*opened.source->read(), 7.98, 1e-9);
}

TEST(Jetson, ReadsTheNanosOlderDriverInMilliwatts) {
  test::MachineTree nano;
  nano.file("/proc/device-tree/model", std::string("NVIDIA Jetson Nano Developer Kit") + '\0');
  const std::string chip = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/";
  for (const auto& [n, name, power] : std::vector<std::tuple<int, std::string, std::string>>{
           {0, "POM_5V_IN", "2480"}, {1, "POM_5V_GPU", "80"}, {2, "POM_5V_CPU", "760"}}) {
    nano.file(chip + "rail_name_" + std::to_string(n), name);
    nano.file(chip + "in_power" + std::to_string(n) + "_input", power);
  }
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", nano.host()));
  EXPECT_EQ(opened.name, "jetson");
  EXPECT_EQ(opened.source->description(), "POM_5V_IN");
  EXPECT_NEAR(*opened.source->read(), 2.48, 1e-9);
}

TEST(Jetson, AddsAndNamesTheRailsWhereNoneIsTheInput) {
  test::MachineTree xavier;
  xavier.file("/proc/device-tree/model", "Jetson-AGX");
  for (int chip = 0; chip < 2; ++chip) {
    const std::string device =
        "/sys/bus/i2c/drivers/ina3221x/1-004" + std::to_string(chip) + "/iio:device" + std::to_string(chip) + "/";
    for (int n = 0; n < 3; ++n) {
      static const std::vector<std::string> kNames = {"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"};
      xavier.file(device + "rail_name_" + std::to_string(n), kNames[static_cast<size_t>(chip * 3 + n)]);
      xavier.file(device + "in_power" + std::to_string(n) + "_input", "1000");
    }
  }
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", xavier.host()));
  EXPECT_EQ(opened.source->description(), "GPU + CPU + SOC + CV + VDDRQ + SYS5V");
  EXPECT_NEAR(*opened.source->read(), 6.0, 1e-9);
}

constexpr const char* kPmic =
    "   3V7_WL_SW_A current(0)=0.08000000A\n"
    "     3V3_SYS_A current(1)=0.06000000A\n"
    "    VDD_CORE_A current(7)=2.50000000A\n"
    "   3V7_WL_SW_V volt(8)=3.70000000V\n"
    "     3V3_SYS_V volt(9)=3.30000000V\n"
    "    VDD_CORE_V volt(15)=0.88000000V\n"
    "       EXT5V_V volt(24)=5.15096000V\n"
    "        BATT_V volt(25)=0.00000000V";

TEST(Pmic, AddsTheRailsThatHaveBothVoltageAndCurrent) {
  test::MachineTree pi;
  pi.file("/proc/device-tree/model", std::string("Raspberry Pi 5 Model B Rev 1.0") + '\0');
  pi.vcgencmd("pmic_read_adc", kPmic);
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", pi.host()));
  EXPECT_EQ(opened.name, "pmic");
  EXPECT_NEAR(*opened.source->read(), 0.08 * 3.7 + 0.06 * 3.3 + 2.5 * 0.88, 1e-9);
  EXPECT_NE(opened.source->description().find("3 rails"), std::string::npos) << opened.source->description();
}

TEST(Pmic, SaysWhatIsMissingWhenTheToolDoesNotAnswer) {
  test::MachineTree pi;
  pi.file("/proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0");
  ASSERT_EXPECTED(const auto without, open_power_source("auto", pi.host()));
  EXPECT_EQ(without.source, nullptr);
  EXPECT_NE(without.trouble.find("raspi-utils"), std::string::npos) << without.trouble;
  pi.vcgencmd("pmic_read_adc", "error=1 error_msg=\"Command not registered\"");
  EXPECT_FALSE(open_power_source("pmic", pi.host()).has_value());
}

TEST(PowerSource, AMachineWithoutOneHasNoneAndNoTrouble) {
  test::MachineTree virtual_machine;
  virtual_machine.file("/proc/device-tree/model", "linux,dummy-virt");
  ASSERT_EXPECTED(const auto opened, open_power_source("auto", virtual_machine.host()));
  EXPECT_EQ(opened.source, nullptr);
  EXPECT_EQ(opened.trouble, "");
}

TEST(PowerSource, AnAbsentOrUnknownSourceThatIsAskedForIsAnError) {
  const test::MachineTree empty;
  for (const PowerSourceKind& kind : power_sources()) {
    const auto opened = open_power_source(kind.name, empty.host());
    ASSERT_FALSE(opened.has_value()) << kind.name;
    EXPECT_EQ(opened.error().code, ErrorCode::kNotFound) << opened.error().message;
  }
  EXPECT_EQ(open_power_source("crystal ball", empty.host()).error().code, ErrorCode::kInvalid);
}

TEST(PowerSource, RaplComesFirst) {
  Server server;
  server.file("/sys/class/hwmon/hwmon0/name", "ina226");
  server.file("/sys/class/hwmon/hwmon0/power1_input", "5250000");
  EXPECT_EQ(open_power_source("auto", server.host())->name, "rapl");
  EXPECT_EQ(open_power_source("hwmon", server.host())->name, "hwmon");
}

}  // namespace
}  // namespace shoehorn::eval
