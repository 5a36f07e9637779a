// The files of devices/, as the build found them.
#pragma once

#include <span>
#include <string_view>

namespace shoehorn::fit {

struct BundledDevice {
  std::string_view name, toml;
};

std::span<const BundledDevice> bundled_devices();

}  // namespace shoehorn::fit
