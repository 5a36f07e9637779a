#include "eval/power_recorder.h"

#include <utility>

namespace shoehorn::eval {
namespace {

/// The thread that reads may be late when all CPUs are busy; for longer there is a gap.
constexpr double kMaxGapSeconds = 2;

}  // namespace

PowerRecorder::PowerRecorder(std::unique_ptr<PowerSource> source) : source_(std::move(source)) {
  mark();
  thread_ = std::jthread([this](const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested() && status_) {
      wake_.wait_for(lock, stop, source_->interval(), [] { return false; });
      if (!stop.stop_requested()) sample();
    }
  });
}

PowerRecorder::~PowerRecorder() = default;

void PowerRecorder::mark() {
  const std::lock_guard lock(mutex_);
  if (status_) sample();
}

void PowerRecorder::sample() {
  const double before = unix_seconds();
  const auto value = source_->read();
  if (!value) {
    status_ = tl::unexpected<Error>(value.error());
    return;
  }
  // Starting a program takes a while: the reading is from the middle of it. Clocks may be set back.
  double time = (before + unix_seconds()) / 2;
  if (!samples_.empty()) time = std::max(time, samples_.back().time);
  samples_.push_back({time, *value});
}

Expected<EnergySeries> PowerRecorder::series() const {
  const std::lock_guard lock(mutex_);
  if (!status_) return tl::unexpected<Error>(status_.error());
  const auto kind =
      source_->kind() == PowerSource::Kind::kCounter ? EnergySeries::Kind::kCounter : EnergySeries::Kind::kPower;
  return EnergySeries(kind, samples_, kMaxGapSeconds);
}

std::string PowerRecorder::description() const {
  const std::lock_guard lock(mutex_);
  return source_->description();
}

}  // namespace shoehorn::eval
