// Power sensors as Linux' hwmon and iio subsystems show them.
#pragma once

#include <string>
#include <vector>

#include "eval/power_source.h"

namespace shoehorn::eval {

/// One measured rail: watts = value * scale, or value * current * scale where power is measured as voltage and current;
/// a counter gives joules so.
struct Rail {
  std::string label;
  std::string value_path, current_path;  ///< current_path may be empty
  double scale = 0;
  bool counter = false;
};

/// Rails of one hwmon directory, in the units of Documentation/hwmon/sysfs-interface.rst: powerN_input (or
/// powerN_average) in uW, inN_input in mV times currN_input in mA, energyN_input in uJ. Labels are "CHIP RAIL" or the
/// chip's name.
std::vector<Rail> hwmon_rails(const std::string& directory);

/// The rail that feeds all others, by its label (VDD_IN, POM_5V_IN, VIN ...); nullptr when none is named so.
const Rail* input_rail(const std::vector<Rail>& rails);

/// The sum of rails, which are all counters or none of them, as a source. Reads each once: fails as read() does.
Expected<std::unique_ptr<PowerSource>> sum_of_rails(std::vector<Rail> rails);

}  // namespace shoehorn::eval
