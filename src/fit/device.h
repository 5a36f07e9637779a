// A machine that a model is to run on: what it has and how fast it is.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "quant/format.h"

namespace shoehorn::fit {

/// How fast products with weights of a format are, all threads together.
struct FormatRates {
  double read = 0;  ///< bytes of weights per second for one token, from memory
  double macs = 0;  ///< multiply-accumulates per second for a batch of tokens
};

/// Attention, by the elements of a head.
struct AttentionRates {
  double macs = 0;    ///< multiply-accumulates per second for a batch of tokens
  double read = 0;    ///< bytes of keys and values per second for one token
  double call_s = 0;  ///< for one token beside these
};

/// What `probe` measured beside products and attention.
struct StepCosts {
  double step_s = 0;  ///< a step that all threads take part in, however small
  double norm_s = 0;  ///< per element and token
  double rope_s = 0;  ///< per element of queries, keys and values and token
};

struct Device {
  std::string name;   ///< "rpi5-8g"
  std::string about;  ///< for people: what it is, and where its figures are from
  std::string isa;    ///< kernel set (kernels.inc)
  int cores = 0;
  uint64_t ram = 0;     ///< bytes
  double usable = 0.8;  ///< share of it that a model may take
  double read = 0;      ///< bytes per second from memory, all cores
  double macs = 0;      ///< int8 multiply-accumulates per second, all cores (floats where there is no int8 product)
  double storage = 0;   ///< bytes per second from the disk; 0: unknown
  std::map<quant::Type, FormatRates> formats;  ///< empty: not measured
  std::map<int, AttentionRates> attention;     ///< by head_dim; empty: not measured
  StepCosts steps;

  /// Rates come from `probe`, not from a data sheet.
  bool measured() const { return !formats.empty(); }
  uint64_t usable_ram() const { return static_cast<uint64_t>(usable * static_cast<double>(ram)); }
};

/// Reads a device (TOML; docs/fit.md). `source` names it in errors. Fails with kInvalid and the key for what is
/// missing, no number or out of range; unknown keys are refused, too.
Expected<Device> parse_device(std::string_view text, const std::string& source);

/// The same as a file has it.
std::string to_toml(const Device& device);

/// The devices that the program brings along (devices/), by name.
const std::map<std::string, Device>& known_devices();

/// A known device's name, or the path of a file. Fails with the names.
Expected<Device> find_device(const std::string& name_or_path);

}  // namespace shoehorn::fit
