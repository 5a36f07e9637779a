// Reads a power source from a thread of its own while other work goes on.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "eval/energy_series.h"
#include "eval/power_source.h"

namespace shoehorn::eval {

/// Thread-safe. Samples from its construction to its end.
class PowerRecorder {
 public:
  explicit PowerRecorder(std::unique_ptr<PowerSource> source);
  ~PowerRecorder();
  PowerRecorder(const PowerRecorder&) = delete;
  PowerRecorder& operator=(const PowerRecorder&) = delete;

  /// Takes a sample now: call it where a window begins and where it ends.
  void mark();

  /// What was read up to now, or the error that ended the reading.
  Expected<EnergySeries> series() const;
  std::string description() const;

 private:
  void sample();

  std::unique_ptr<PowerSource> source_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  std::vector<EnergySeries::Sample> samples_;
  Status status_;
  std::jthread thread_;
};

}  // namespace shoehorn::eval
