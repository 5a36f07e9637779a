#include "eval/energy_series.h"

#include <algorithm>
#include <chrono>

namespace shoehorn::eval {
namespace {

using Sample = EnergySeries::Sample;

double value_at(const Sample& a, const Sample& b, double time) {
  return b.time > a.time ? a.value + (b.value - a.value) * (time - a.time) / (b.time - a.time) : b.value;
}

}  // namespace

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

EnergySeries::EnergySeries(Kind kind, std::vector<Sample> samples, double max_gap)
    : kind_(kind), samples_(std::move(samples)), max_gap_(max_gap) {}

Expected<double> EnergySeries::joules(const Window& window) const {
  if (samples_.empty()) return fail(ErrorCode::kInvalid, "there is no sample");
  const double first = samples_.front().time, last = samples_.back().time;
  if (window.begin < first || window.end > last) {
    return fail(ErrorCode::kInvalid, "the samples cover {:.1f} to {:.1f} (Unix seconds), not {:.1f} to {:.1f}", first,
                last, window.begin, window.end);
  }
  if (kind_ == Kind::kPower) {
    const auto inside = std::ranges::count_if(
        samples_, [&](const Sample& s) { return s.time >= window.begin && s.time <= window.end; });
    if (inside < 2) {
      return fail(ErrorCode::kInvalid,
                  "{} sample{} in {:.2f} s say nothing about its power; a longer test does (-n, -p)", inside,
                  inside == 1 ? "" : "s", window.seconds());
    }
  }
  double joules = 0;
  for (size_t i = 1; i < samples_.size(); ++i) {
    const Sample &a = samples_[i - 1], &b = samples_[i];
    const double begin = std::max(a.time, window.begin), end = std::min(b.time, window.end);
    if (end <= begin) continue;
    const double from = value_at(a, b, begin), to = value_at(a, b, end);
    if (kind_ == Kind::kCounter) {
      joules += to - from;
      continue;
    }
    if (b.time - a.time > max_gap_) {
      return fail(ErrorCode::kInvalid,
                  "no sample for {:.1f} s from {:.1f} on (Unix seconds); up to {:.1f} s are bridged", b.time - a.time,
                  a.time, max_gap_);
    }
    joules += (from + to) / 2 * (end - begin);
  }
  return joules;
}

}  // namespace shoehorn::eval
