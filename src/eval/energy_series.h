// Energy over time, from samples.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::eval {

/// Seconds of the system's clock (Unix time).
double unix_seconds();

/// A stretch of time, Unix seconds.
struct Window {
  double begin = 0, end = 0;
  double seconds() const { return end - begin; }
};

/// Samples in the order of their time.
class EnergySeries {
 public:
  enum class Kind { kPower, kCounter };  ///< watts; joules since some begin

  struct Sample {
    double time;  ///< Unix seconds
    double value;
  };

  /// Two samples that are further apart than max_gap seconds have unknown power between them; a counter misses nothing.
  EnergySeries(Kind kind, std::vector<Sample> samples, double max_gap);

  /// Joules within a window. Power is taken as linear between samples (trapezoid rule), so is a counter. Fails with
  /// kInvalid, saying when, where the samples do not cover the window, power samples leave a gap in it, or fewer than
  /// two of them lie in it.
  Expected<double> joules(const Window& window) const;

  const std::vector<Sample>& samples() const { return samples_; }
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
  std::vector<Sample> samples_;
  double max_gap_;
};

}  // namespace shoehorn::eval
