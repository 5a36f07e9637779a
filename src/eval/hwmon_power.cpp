#include "eval/hwmon_power.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace shoehorn::eval {
namespace {

constexpr double kMicro = 1e-6;

// Chips that stand in a supply line of the machine. Others that hwmon lists (graphics cards, disks) measure a part that
// does not run the model.
constexpr std::array<std::string_view, 20> kSupplyChips = {
    "ina209",  "ina219",  "ina220",  "ina226",      "ina228",     "ina230",    "ina231",
    "ina233",  "ina234",  "ina237",  "ina238",      "ina260",     "ina3221",   "ltc2945",
    "ltc2947", "lm25066", "adm1275", "power_meter", "corsairpsu", "amd_energy"};

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

/// A sensor that is switched off may be there and refuse to be read.
bool exists(const std::string& path) {
  const auto text = read_small_file(path);
  return text || text.error().code != ErrorCode::kNotFound;
}

class SumOfRails : public PowerSource {
 public:
  explicit SumOfRails(std::vector<Rail> rails) : rails_(std::move(rails)), first_(rails_.size(), 0) {}

  Kind kind() const override { return rails_[0].counter ? Kind::kCounter : Kind::kPower; }
  std::chrono::milliseconds interval() const override {
    return std::chrono::milliseconds(kind() == Kind::kCounter ? 2000 : 100);
  }
  std::string description() const override {
    std::string text;
    for (const Rail& rail : rails_) text += (text.empty() ? "" : " + ") + rail.label;
    return text;
  }

  Status start() {
    for (size_t i = 0; i < rails_.size(); ++i) {
      SHOEHORN_TRY(const double value, value_of(rails_[i]));
      if (rails_[i].counter) first_[i] = value;
    }
    return {};
  }

  Expected<double> read() override {
    double sum = 0;
    for (size_t i = 0; i < rails_.size(); ++i) {
      SHOEHORN_TRY(const double value, value_of(rails_[i]));
      sum += value - first_[i];
    }
    if (kind() == Kind::kCounter && sum < last_) {
      return fail(ErrorCode::kInvalid, "{}: the energy counter fell", rails_[0].value_path);
    }
    return last_ = sum;
  }

 private:
  static Expected<double> value_of(const Rail& rail) {
    SHOEHORN_TRY(double value, read_number_file(rail.value_path));
    if (!rail.current_path.empty()) {
      SHOEHORN_TRY(const double current, read_number_file(rail.current_path));
      value *= current;
    }
    return value * rail.scale;
  }

  std::vector<Rail> rails_;
  std::vector<double> first_;  // counters when the source was opened
  double last_ = 0;
};

}  // namespace

std::vector<Rail> hwmon_rails(const std::string& directory) {
  const std::string chip = read_small_file(directory + "/name").value_or("hwmon");
  const auto label = [&](const std::string& channel) -> std::string {
    const auto text = read_small_file(directory + "/" + channel + "_label");
    return text && !text->empty() ? chip + " " + *text : chip;
  };
  const auto in_use = [&](const std::string& channel) {
    return read_small_file(directory + "/" + channel + "_enable").value_or("1") != "0" &&
           lower(label(channel)) != chip + " nc";
  };
  std::vector<Rail> rails;
  for (int n = 1; n <= 16; ++n) {
    const std::string power = fmt::format("power{}", n), file = directory + "/" + power;
    const std::string value = exists(file + "_input") ? file + "_input" : file + "_average";
    if (exists(value) && in_use(power)) rails.push_back({label(power), value, "", kMicro, false});
  }
  if (!rails.empty()) return rails;
  // An INA3221's channels 4 to 7 are shunt voltages and their sum: no supply.
  const int channels = chip == "ina3221" ? 3 : 16;
  for (int n = 1; n <= channels; ++n) {
    const std::string voltage = fmt::format("in{}", n), in = directory + "/" + voltage + "_input",
                      current = fmt::format("{}/curr{}_input", directory, n);
    if (exists(in) && exists(current) && in_use(voltage)) rails.push_back({label(voltage), in, current, kMicro, false});
  }
  if (!rails.empty()) return rails;
  for (int n = 1; n <= 64; ++n) {
    const std::string energy = fmt::format("energy{}", n), value = directory + "/" + energy + "_input";
    if (exists(value) && in_use(energy)) rails.push_back({label(energy), value, "", kMicro, true});
  }
  return rails;
}

const Rail* input_rail(const std::vector<Rail>& rails) {
  static constexpr std::array<std::string_view, 7> kNames = {"vdd_in", "pom_5v_in",   "vin", "input",
                                                             "total",  "power total", "psys"};
  for (const Rail& rail : rails) {
    const std::string name = lower(rail.label);
    for (const std::string_view wanted : kNames) {
      if (name == wanted || name.ends_with(" " + std::string(wanted))) return &rail;
    }
  }
  return nullptr;
}

Expected<std::unique_ptr<PowerSource>> sum_of_rails(std::vector<Rail> rails) {
  auto source = std::make_unique<SumOfRails>(std::move(rails));
  SHOEHORN_RETURN_IF_ERROR(source->start());
  return source;
}

/// The supply chips' input rail where one is named so, else the sum of all their rails.
Expected<std::unique_ptr<PowerSource>> open_hwmon(const Host& host) {
  std::vector<Rail> powers, counters;
  const std::string directory = host.root + "/sys/class/hwmon";
  for (const std::string& entry : entries_of(directory, "hwmon")) {
    const std::string chip = read_small_file(entry + "/name").value_or("");
    if (std::ranges::find(kSupplyChips, chip) == kSupplyChips.end()) continue;
    for (Rail& rail : hwmon_rails(entry)) {
      // amd_energy counts sockets and, again, their cores.
      if (rail.counter && rail.label.find("core") != std::string::npos) continue;
      (rail.counter ? counters : powers).push_back(std::move(rail));
    }
  }
  std::vector<Rail>& rails = powers.empty() ? counters : powers;
  if (rails.empty()) return fail(ErrorCode::kNotFound, "{} has no power sensor of a supply", directory);
  if (const Rail* input = input_rail(rails)) return sum_of_rails({*input});
  return sum_of_rails(std::move(rails));
}

}  // namespace shoehorn::eval
