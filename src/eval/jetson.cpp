// NVIDIA Jetson: INA3221 chips on the module, by hwmon (JetPack 5 and later) or iio (JetPack 4).
#include "eval/hwmon_power.h"

namespace shoehorn::eval {
namespace {

/// Rails of JetPack 4's driver: rail_name_N and in_powerN_input in mW.
std::vector<Rail> iio_rails(const std::string& device) {
  std::vector<Rail> rails;
  for (int n = 0; n < 3; ++n) {
    const auto name = read_small_file(fmt::format("{}/rail_name_{}", device, n));
    const std::string power = fmt::format("{}/in_power{}_input", device, n);
    if (name && *name != "NC" && read_small_file(power)) rails.push_back({*name, power, "", 1e-3, false});
  }
  return rails;
}

std::vector<Rail> all_rails(const Host& host) {
  std::vector<Rail> rails;
  for (const std::string& entry : entries_of(host.root + "/sys/class/hwmon", "hwmon")) {
    if (read_small_file(entry + "/name").value_or("") != "ina3221") continue;
    for (Rail& rail : hwmon_rails(entry)) rails.push_back(std::move(rail));
  }
  for (const char* driver : {"ina3221x", "ina3221"}) {
    for (const std::string& chip : entries_of(host.root + "/sys/bus/i2c/drivers/" + driver, "")) {
      for (const std::string& device : entries_of(chip, "iio:device")) {
        for (Rail& rail : iio_rails(device)) rails.push_back(std::move(rail));
      }
    }
  }
  return rails;
}

}  // namespace

/// The module's input where a rail is named so (Nano, TX2, NX, Orin NX: POM_5V_IN, VDD_IN); on others (AGX) the sum of
/// the rails.
Expected<std::unique_ptr<PowerSource>> open_jetson(const Host& host) {
  // "NVIDIA Jetson Nano Developer Kit"; the INA3221 is found on other boards too.
  const std::string board = read_small_file(host.root + "/proc/device-tree/model").value_or("");
  if (board.find("Jetson") == std::string::npos) return fail(ErrorCode::kNotFound, "not a Jetson board");
  const std::vector<Rail> rails = all_rails(host);
  if (rails.empty()) return fail(ErrorCode::kNotFound, "{}: no INA3221 rail", board);
  if (const Rail* input = input_rail(rails)) return sum_of_rails({*input});
  return sum_of_rails(rails);
}

}  // namespace shoehorn::eval
