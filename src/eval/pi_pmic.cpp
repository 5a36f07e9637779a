// Raspberry Pi 5: its power management chip's converters, by the firmware's tool.
#include <charconv>
#include <map>
#include <sstream>

#include "base/subprocess.h"
#include "eval/power_source.h"

namespace shoehorn::eval {
namespace {

constexpr auto kTimeout = std::chrono::milliseconds(2000);

/// Sum of volts times amperes over the rails that have both. A line: "   VDD_CORE_A current(7)=1.06600000A" or
/// "   VDD_CORE_V volt(15)=0.88058900V". EXT5V_V and BATT_V are voltages without a current.
Expected<double> rail_watts(const std::string& text, size_t& n_rails) {
  std::map<std::string, double> amperes, volts;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const size_t begin = line.find_first_not_of(" \t"), space = line.find(' ', begin), equals = line.find('=');
    if (begin == std::string::npos || space == std::string::npos || equals == std::string::npos || space < begin + 3)
      continue;
    const std::string name = line.substr(begin, space - begin - 2), suffix = line.substr(space - 2, 2);
    double value = 0;
    const char* const end = line.data() + line.size();
    const auto [rest, error] = std::from_chars(line.data() + equals + 1, end, value);
    if (error != std::errc() || rest == end || *rest != suffix[1]) continue;
    if (suffix == "_A") amperes[name] = value;
    if (suffix == "_V") volts[name] = value;
  }
  double watts = 0;
  n_rails = 0;
  for (const auto& [name, current] : amperes) {
    const auto voltage = volts.find(name);
    if (voltage == volts.end()) continue;
    watts += current * voltage->second;
    ++n_rails;
  }
  if (n_rails == 0) return fail(ErrorCode::kInvalid, "vcgencmd pmic_read_adc: no rail has both current and voltage");
  return watts;
}

class Pmic : public PowerSource {
 public:
  explicit Pmic(std::string vcgencmd) : vcgencmd_(std::move(vcgencmd)) {}

  Kind kind() const override { return Kind::kPower; }
  // A program has to be started: often enough for seconds, not so often that it is what is measured.
  std::chrono::milliseconds interval() const override { return std::chrono::milliseconds(500); }
  std::string description() const override {
    return fmt::format("{} rails of the power management chip; USB devices and the losses of the supply are not in it",
                       n_rails_);
  }
  Expected<double> read() override {
    SHOEHORN_TRY(const std::string text, run_program({vcgencmd_, "pmic_read_adc"}, kTimeout));
    return rail_watts(text, n_rails_);
  }

 private:
  std::string vcgencmd_;
  size_t n_rails_ = 0;
};

}  // namespace

Expected<std::unique_ptr<PowerSource>> open_pmic(const Host& host) {
  const std::string board = read_small_file(host.root + "/proc/device-tree/model").value_or("");
  if (board.find("Raspberry Pi 5") == std::string::npos &&
      board.find("Raspberry Pi Compute Module 5") == std::string::npos) {
    return fail(ErrorCode::kNotFound, "not a Raspberry Pi 5");
  }
  auto source = std::make_unique<Pmic>(host.vcgencmd);
  if (const auto watts = source->read(); !watts) {
    // The board has the sensors: that they cannot be read is worth to be told.
    return fail(ErrorCode::kIo, "{}; vcgencmd comes with the package raspi-utils and needs /dev/vcio (group video)",
                watts.error().message);
  }
  return source;
}

}  // namespace shoehorn::eval
