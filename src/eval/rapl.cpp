// Running average power limit: energy counters of processor packages, Documentation/power/powercap/powercap.rst of
// Linux.
#include <vector>

#include "eval/power_source.h"

namespace shoehorn::eval {
namespace {

constexpr double kMicro = 1e-6;

/// A counter in microjoules that starts over when it passes `range`.
struct Domain {
  std::string name;
  std::string path;
  double range = 0;
  double last = 0;
};

class Rapl : public PowerSource {
 public:
  explicit Rapl(std::vector<Domain> domains) : domains_(std::move(domains)) {}

  Kind kind() const override { return Kind::kCounter; }
  // The smallest range in use, 65536 J of older models, lasts for minutes at any power that a package can take.
  std::chrono::milliseconds interval() const override { return std::chrono::seconds(2); }
  std::string description() const override {
    std::string text;
    for (const Domain& domain : domains_) text += (text.empty() ? "" : " + ") + domain.name;
    return text;
  }

  Expected<double> read() override {
    for (Domain& domain : domains_) {
      SHOEHORN_TRY(const double now, read_number_file(domain.path));
      double passed = now - domain.last;
      if (passed < 0) passed += domain.range;
      if (passed < 0 || now < 0) {
        return fail(ErrorCode::kInvalid, "{}: the counter went from {:.0f} to {:.0f} uJ, its range is {:.0f} uJ",
                    domain.path, domain.last, now, domain.range);
      }
      domain.last = now;
      joules_ += passed * kMicro;
    }
    return joules_;
  }

 private:
  std::vector<Domain> domains_;
  double joules_ = 0;
};

/// The packages among the zones of a control type. Their subzones (core, uncore, dram) are directories inside and are
/// not counted: cores are in the package's counter already. "psys" measures what the vendor made it measure.
Expected<std::vector<Domain>> packages(const std::string& directory, const std::string& prefix) {
  std::vector<Domain> domains;
  for (const std::string& zone : entries_of(directory, prefix)) {
    if (base_name(zone).find(':', prefix.size()) != std::string::npos) continue;  // intel-rapl:0:1, a subzone
    const auto name = read_small_file(zone + "/name");
    if (!name || !name->starts_with("package-")) continue;
    Domain domain = {.name = *name, .path = zone + "/energy_uj"};
    SHOEHORN_TRY(domain.range, read_number_file(zone + "/max_energy_range_uj"));
    const auto first = read_number_file(domain.path);
    if (!first) {
      return fail(first.error().code == ErrorCode::kNotFound ? ErrorCode::kIo : first.error().code,
                  "{}; run as root, or allow it to all users until the next boot: sudo chmod a+r {}/{}*/energy_uj",
                  first.error().message, directory, prefix);
    }
    domain.last = *first;
    domains.push_back(std::move(domain));
  }
  return domains;
}

}  // namespace

Expected<std::unique_ptr<PowerSource>> open_rapl(const Host& host) {
  const std::string directory = host.root + "/sys/class/powercap";
  // The same counters may be reachable by registers and by memory (mmio): one of them is enough.
  for (const char* prefix : {"intel-rapl:", "intel-rapl-mmio:"}) {
    SHOEHORN_TRY(auto domains, packages(directory, prefix));
    if (!domains.empty()) return std::make_unique<Rapl>(std::move(domains));
  }
  return fail(ErrorCode::kNotFound, "{} has no processor package", directory);
}

}  // namespace shoehorn::eval
