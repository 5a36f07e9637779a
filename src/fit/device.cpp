#include "fit/device.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>

#include "base/output_file.h"
#include "fit/bundled_devices.h"
#include "fit/toml_values.h"

namespace shoehorn::fit {
namespace {

constexpr uint64_t kMaxFileBytes = 1 << 20;
constexpr double kGiga = 1e9, kGibi = 1 << 30;

/// A table's values, each asked for once; what was not asked for is unknown.
class Reader {
 public:
  Reader(const toml::table& table, std::string where) : table_(table), where_(std::move(where)) {}

  Expected<std::string> text(const char* key) {
    const auto* node = find(key);
    const auto* value = node == nullptr ? nullptr : node->as_string();
    if (value == nullptr) return fail(ErrorCode::kInvalid, "{}{}: a text is expected", where_, key);
    return value->get();
  }

  /// A number from `least` to `most`; nothing given: `fallback`, which is nothing for what must be there.
  Expected<double> number(const char* key, double least, double most, std::optional<double> fallback = {}) {
    const auto* node = find(key);
    if (node == nullptr && fallback) return *fallback;
    const auto value = node == nullptr ? std::optional<double>() : node->value<double>();
    if (!value || !(*value >= least && *value <= most)) {
      return fail(ErrorCode::kInvalid, "{}{}: a number from {} to {} is expected", where_, key, least, most);
    }
    return *value;
  }

  const toml::table* table(const char* key) {
    const auto* node = find(key);
    return node == nullptr ? nullptr : node->as_table();
  }

  Status done() const {
    for (const auto& [key, node] : table_) {
      if (!asked_.contains(key.str()))
        return fail(ErrorCode::kInvalid, "{}{}: there is no such key", where_, key.str());
    }
    return {};
  }

 private:
  const toml::node* find(const char* key) {
    asked_.insert(key);
    return table_.get(key);
  }

  const toml::table& table_;
  const std::string where_;
  std::set<std::string, std::less<>> asked_;
};

Status read_formats(const toml::table& table, const std::string& source, Device& device) {
  for (const auto& [key, node] : table) {
    const quant::Format* format = quant::find_format(key.str());
    const auto* rates = node.as_table();
    const std::string where = fmt::format("{}: [format.{}] ", source, key.str());
    if (format == nullptr || rates == nullptr) return fail(ErrorCode::kInvalid, "{}is no format", where);
    Reader reader(*rates, where);
    FormatRates& out = device.formats[format->type];
    SHOEHORN_TRY(out.read, reader.number("read_gbs", 1e-6, 1e6));
    SHOEHORN_TRY(out.macs, reader.number("gmacs", 1e-6, 1e9));
    out.read *= kGiga;
    out.macs *= kGiga;
    SHOEHORN_RETURN_IF_ERROR(reader.done());
  }
  return {};
}

Status read_attention(const toml::table& table, const std::string& source, Device& device) {
  for (const auto& [key, node] : table) {
    const std::string where = fmt::format("{}: [attention.{}] ", source, key.str());
    const int head_dim = std::atoi(std::string(key.str()).c_str());
    const auto* rates = node.as_table();
    if (head_dim <= 0 || rates == nullptr)
      return fail(ErrorCode::kInvalid, "{}is no number of elements of a head", where);
    Reader reader(*rates, where);
    AttentionRates& out = device.attention[head_dim];
    SHOEHORN_TRY(out.macs, reader.number("gmacs", 1e-6, 1e9));
    SHOEHORN_TRY(out.read, reader.number("read_gbs", 1e-6, 1e6));
    SHOEHORN_TRY(out.call_s, reader.number("call_us", 0, 1e6));
    out.macs *= kGiga;
    out.read *= kGiga;
    out.call_s *= 1e-6;
    SHOEHORN_RETURN_IF_ERROR(reader.done());
  }
  return {};
}

/// To four significant digits: more would be noise.
std::string digits(double value) { return fmt::format("{:.4g}", value); }

}  // namespace

Expected<Device> parse_device(std::string_view text, const std::string& source) {
  SHOEHORN_TRY(const toml::table parsed, parse_toml(text, source));
  Reader reader(parsed, source + ": ");
  Device device;
  SHOEHORN_TRY(device.name, reader.text("name"));
  SHOEHORN_TRY(device.about, reader.text("about"));
  SHOEHORN_TRY(device.isa, reader.text("isa"));
  SHOEHORN_TRY(const double cores, reader.number("cores", 1, 4096));
  SHOEHORN_TRY(const double ram, reader.number("ram_gib", 1.0 / 64, 1 << 20));
  SHOEHORN_TRY(device.usable, reader.number("usable", 0.05, 1, device.usable));
  SHOEHORN_TRY(device.read, reader.number("read_gbs", 1e-3, 1e6));
  SHOEHORN_TRY(device.macs, reader.number("gmacs", 1e-3, 1e9));
  SHOEHORN_TRY(device.storage, reader.number("storage_mbs", 0, 1e6, 0));
  device.cores = static_cast<int>(cores);
  device.ram = static_cast<uint64_t>(ram * kGibi);
  device.read *= kGiga;
  device.macs *= kGiga;
  device.storage *= 1e6;
  if (const toml::table* steps = reader.table("steps")) {
    Reader costs(*steps, source + ": [steps] ");
    SHOEHORN_TRY(device.steps.step_s, costs.number("step_us", 0, 1e6));
    SHOEHORN_TRY(device.steps.norm_s, costs.number("norm_ns", 0, 1e6));
    SHOEHORN_TRY(device.steps.rope_s, costs.number("rope_ns", 0, 1e6));
    device.steps.step_s *= 1e-6;
    device.steps.norm_s *= 1e-9;
    device.steps.rope_s *= 1e-9;
    SHOEHORN_RETURN_IF_ERROR(costs.done());
  }
  if (const toml::table* formats = reader.table("format"))
    SHOEHORN_RETURN_IF_ERROR(read_formats(*formats, source, device));
  if (const toml::table* attention = reader.table("attention")) {
    SHOEHORN_RETURN_IF_ERROR(read_attention(*attention, source, device));
  }
  SHOEHORN_RETURN_IF_ERROR(reader.done());
  return device;
}

std::string to_toml(const Device& d) {
  std::string out =
      fmt::format("name = {}\nabout = {}\nisa = {}\ncores = {}\nram_gib = {}\nusable = {}\nread_gbs = {}\ngmacs = {}\n",
                  quoted(d.name), quoted(d.about), quoted(d.isa), d.cores, digits(static_cast<double>(d.ram) / kGibi),
                  digits(d.usable), digits(d.read / kGiga), digits(d.macs / kGiga));
  if (d.storage > 0) out += fmt::format("storage_mbs = {}\n", digits(d.storage / 1e6));
  if (!d.measured()) return out;
  out += fmt::format("\n[steps]\nstep_us = {}\nnorm_ns = {}\nrope_ns = {}\n", digits(d.steps.step_s * 1e6),
                     digits(d.steps.norm_s * 1e9), digits(d.steps.rope_s * 1e9));
  for (const auto& [head_dim, rates] : d.attention) {
    out += fmt::format("\n[attention.{}]\ngmacs = {}\nread_gbs = {}\ncall_us = {}\n", head_dim,
                       digits(rates.macs / kGiga), digits(rates.read / kGiga), digits(rates.call_s * 1e6));
  }
  for (const auto& [type, rates] : d.formats) {
    out += fmt::format("\n[format.{}]\nread_gbs = {}\ngmacs = {}\n", quant::format(type).name,
                       digits(rates.read / kGiga), digits(rates.macs / kGiga));
  }
  return out;
}

const std::map<std::string, Device>& known_devices() {
  static const std::map<std::string, Device> devices = [] {
    std::map<std::string, Device> out;
    for (const BundledDevice& bundled : bundled_devices()) {
      // A test reads each of them: one that cannot be read is not there.
      if (auto device = parse_device(bundled.toml, std::string(bundled.name)))
        out.emplace(bundled.name, std::move(*device));
    }
    return out;
  }();
  return devices;
}

Expected<Device> find_device(const std::string& name_or_path) {
  if (const auto known = known_devices().find(name_or_path); known != known_devices().end()) return known->second;
  std::error_code ignored;
  if (!std::filesystem::exists(name_or_path, ignored)) {
    std::string names;
    for (const auto& [name, device] : known_devices()) names += (names.empty() ? "" : ", ") + name;
    return fail(ErrorCode::kNotFound, "{}: neither a file (shoehorn probe -o FILE writes one) nor one of {}",
                name_or_path, names);
  }
  SHOEHORN_TRY(const std::string text, read_file(name_or_path, kMaxFileBytes));
  return parse_device(text, name_or_path);
}

}  // namespace shoehorn::fit
