// What measures the power of this machine while a model runs, from inside of it.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>

#include "eval/sysfs.h"

namespace shoehorn::eval {

class PowerSource {
 public:
  enum class Kind {
    kPower,    ///< read() gives watts
    kCounter,  ///< read() gives joules since the source was opened; they never fall
  };

  virtual ~PowerSource() = default;
  virtual Kind kind() const = 0;
  /// What exactly is measured: "package-0 + package-1".
  virtual std::string description() const = 0;
  /// How often it is worth to read it, and for a counter how often it must be.
  virtual std::chrono::milliseconds interval() const = 0;
  /// Fails with kIo or kInvalid and the file.
  virtual Expected<double> read() = 0;
};

/// A row of power_sources.inc.
struct PowerSourceKind {
  const char* name;
  const char* summary;
  /// Fails with kNotFound when the machine has none, with another code when there is one that cannot be read, and the
  /// way out.
  Expected<std::unique_ptr<PowerSource>> (*open)(const Host& host);
};

/// In the order in which they are looked for.
std::span<const PowerSourceKind> power_sources();

struct OpenedPowerSource {
  std::string name;                     ///< of the row; "" without a source
  std::unique_ptr<PowerSource> source;  ///< nullptr: there is none
  std::string trouble;                  ///< sources that are there but cannot be read, and why; or ""
};

/// The first source that can be read, or, when `name` is not "auto", that one; then it fails when it is not there or
/// cannot be read, with kInvalid when no source has the name.
Expected<OpenedPowerSource> open_power_source(const std::string& name, const Host& host = {});

}  // namespace shoehorn::eval
