#include "report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace shoehorn::report {
namespace {

/// Beyond it, and below its inverse, a logarithmic axis does not reach: ratios of values have to stay finite.
constexpr double kLargest = 1e120;
constexpr double kRoom = 0.06;  // share of the axis that stays free at each end

/// 1, 2 or 5 times a power of ten, the least that is not below `step`.
double round_up(double step) {
  const double power = std::pow(10, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::vector<double> linear_ticks(double low, double high) {
  const double step = round_up((high - low) / 5);
  std::vector<double> out;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9 && out.size() < 20; ++i)
    out.push_back(i * step);
  return out;
}

std::vector<double> log_ticks(double low, double high) {
  const double decades = std::log10(high / low);
  if (decades < 0.6) return linear_ticks(low, high);
  const auto step = static_cast<int>(std::max(1.0, std::ceil(decades / 6)));
  std::vector<double> out;
  for (int power = static_cast<int>(std::floor(std::log10(low))); power <= std::log10(high) && out.size() < 20;
       power += step) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 3) continue;
      const double tick = factor * std::pow(10, power);
      if (tick >= low && tick <= high) out.push_back(tick);
    }
  }
  return out;
}

}  // namespace

Axis::Axis(std::span<const double> values, bool log, bool zero, double from, double to, Unit unit)
    : from_(from), to_(to) {
  log_ = log && std::ranges::any_of(values, [](double value) { return std::isfinite(value) && value > 0; });
  bool any = false;
  for (double value : values) {
    if (!std::isfinite(value) || (log_ && value <= 0)) continue;
    if (log_) value = std::clamp(value, 1 / kLargest, kLargest);
    low_ = any ? std::min(low_, value) : value;
    high_ = any ? std::max(high_, value) : value;
    any = true;
  }
  if (!any) low_ = 0, high_ = 1;
  if (log_) {
    const double room = std::max(std::pow(high_ / low_, kRoom), 1.05);
    low_ /= room;
    high_ *= room;
  } else {
    if (zero) low_ = std::min(low_, 0.0), high_ = std::max(high_, 0.0);
    if (high_ <= low_) {
      const double half = std::max(std::abs(low_), 1e-12) * 0.5;
      low_ -= half, high_ += half;
    }
    const double room = (high_ - low_) * kRoom;
    if (!zero || low_ < 0) low_ -= room;
    high_ += room;
  }
  if (unit == Unit::kBytes) {
    constexpr std::pair<double, const char*> kUnits[] = {
        {0x1p30, " GiB"}, {0x1p20, " MiB"}, {0x1p10, " KiB"}, {1, " B"}};
    for (const auto& [size, suffix] : kUnits) {
      unit_ = size, suffix_ = suffix;
      if (high_ >= size) break;
    }
  }
}

double Axis::at(double value) const {
  const double share =
      log_ ? std::log(std::max(value, 1e-300) / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
  return from_ + share * (to_ - from_);
}

std::vector<Axis::Tick> Axis::ticks() const {
  std::vector<Tick> out;
  for (const double tick : log_ ? log_ticks(low_ / unit_, high_ / unit_) : linear_ticks(low_ / unit_, high_ / unit_)) {
    out.push_back({tick * unit_, format_number(tick) + suffix_});
  }
  return out;
}

std::string format_number(double value, int digits) {
  if (!std::isfinite(value)) return "not finite";
  if (std::abs(value) < 1e-300) return "0";
  const double magnitude = std::abs(value);
  if (magnitude < 1e-4 || magnitude >= 1e15) return fmt::format("{:.{}g}", value, digits);
  const int before = static_cast<int>(std::floor(std::log10(magnitude))) + 1;
  std::string text = fmt::format("{:.{}f}", value, std::max(0, digits - before));
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text;
}

std::string format_count(uint64_t value) {
  std::string text = std::to_string(value);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

}  // namespace shoehorn::report
