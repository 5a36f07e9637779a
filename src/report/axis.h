// Axes of plots: from values to positions, and where the ticks are.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace shoehorn::report {

/// How values are written beside an axis.
enum class Unit {
  kNumber,
  kBytes,  ///< in KiB, MiB or GiB; ticks are round in that unit
};

class Axis {
 public:
  /// An axis over the values from position `from` to position `to`, with some room at both ends. Logarithmic when `log`
  /// and any value is positive, then the others are passed over; a linear one starts at zero where `zero`. Values that
  /// are not finite are passed over too; without any, it spans 0 to 1.
  Axis(std::span<const double> values, bool log, bool zero, double from, double to, Unit unit = Unit::kNumber);

  /// The position of a value; it may lie outside of the axis.
  double at(double value) const;
  bool is_log() const { return log_; }
  /// Ends of the axis, values.
  double low() const { return low_; }
  double high() const { return high_; }

  struct Tick {
    double value;
    std::string label;
  };
  /// About five of them, round numbers, in ascending order.
  std::vector<Tick> ticks() const;

 private:
  bool log_ = false;
  double low_ = 0, high_ = 1, from_, to_;
  double unit_ = 1;  // values are labelled in multiples of this
  const char* suffix_ = "";
};

/// A number in at most `digits` significant digits, without an exponent where that is short: "0.0125".
std::string format_number(double value, int digits = 4);

/// A number with its digits in groups: "8,030,261,248".
std::string format_count(uint64_t value);

}  // namespace shoehorn::report
