#include "eval/power_source.h"

namespace shoehorn::eval {

#define SHOEHORN_POWER_SOURCE(name, summary, open) Expected<std::unique_ptr<PowerSource>> open(const Host& host);
#include "eval/power_sources.inc"
#undef SHOEHORN_POWER_SOURCE

std::span<const PowerSourceKind> power_sources() {
  static constexpr PowerSourceKind kSources[] = {
#define SHOEHORN_POWER_SOURCE(name, summary, open) {#name, summary, open},
#include "eval/power_sources.inc"
#undef SHOEHORN_POWER_SOURCE
  };
  return kSources;
}

Expected<OpenedPowerSource> open_power_source(const std::string& name, const Host& host) {
  OpenedPowerSource opened;
  bool known = name == "auto";
  for (const PowerSourceKind& kind : power_sources()) {
    if (name != "auto" && name != kind.name) continue;
    known = true;
    auto source = kind.open(host);
    if (source) {
      opened.name = kind.name;
      opened.source = std::move(*source);
      return opened;
    }
    if (name != "auto") return annotate(source.error(), kind.name);
    if (source.error().code == ErrorCode::kNotFound) continue;
    opened.trouble += fmt::format("{}{}: {}", opened.trouble.empty() ? "" : "; ", kind.name, source.error().message);
  }
  if (!known) return fail(ErrorCode::kInvalid, "there is no power source \"{}\"", name);
  return opened;
}

}  // namespace shoehorn::eval
