#include "eval/energy.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "eval/power_recorder.h"
#include "support/support.h"

namespace shoehorn::eval {
namespace {

/// 3 W until 100, 8 W from 101 on.
EnergySeries idle_then_busy() {
  std::vector<EnergySeries::Sample> samples;
  for (int t = 0; t <= 200; ++t) samples.push_back({static_cast<double>(t), t <= 100 ? 3.0 : 8.0});
  return {EnergySeries::Kind::kPower, std::move(samples), 5};
}

TEST(Energy, TellsStaticFromActivePowerAndWhatATokenTakes) {
  const std::vector<Window> repetitions = {{110, 120}, {130, 150}};
  const auto figures = energy_of(
      idle_then_busy(),
      {.repetitions = repetitions, .n_tokens = 60, .idle = Window{10, 90}, .battery_wh = 37, .words_per_token = 0.75});
  EXPECT_NEAR(*figures.samples_joules[0], 80, 1e-9);
  EXPECT_NEAR(*figures.samples_joules[1], 160, 1e-9);
  EXPECT_NEAR(*figures.joules, 120, 1e-9);
  EXPECT_NEAR(*figures.stddev_joules, 56.5685, 1e-3);
  EXPECT_NEAR(*figures.watts, 8, 1e-9);
  EXPECT_NEAR(*figures.idle_watts, 3, 1e-9);
  EXPECT_NEAR(*figures.joules_per_token, 2, 1e-9);
  EXPECT_NEAR(*figures.tokens_per_joule, 0.5, 1e-9);
  EXPECT_NEAR(*figures.active_tokens_per_joule, 60 / (5.0 * 15), 1e-9);
  EXPECT_NEAR(*figures.words_per_battery, 37 * 3600 * 0.5 * 0.75, 1e-6);
  EXPECT_EQ(figures.trouble, "");
}

TEST(Energy, ARepetitionWithoutAFigureIsToldAndNotGuessed) {
  const std::vector<Window> repetitions = {{110, 120}, {190, 210}};
  const auto figures =
      energy_of(idle_then_busy(), {.repetitions = repetitions, .n_tokens = 10, .idle = Window{-60, -1}});
  EXPECT_TRUE(figures.samples_joules[0].has_value());
  EXPECT_FALSE(figures.samples_joules[1].has_value());
  EXPECT_NEAR(*figures.joules, 80, 1e-9);
  EXPECT_FALSE(figures.idle_watts.has_value());
  EXPECT_FALSE(figures.active_tokens_per_joule.has_value());
  EXPECT_FALSE(figures.words_per_battery.has_value()) << "nobody asked";
  EXPECT_NE(figures.trouble.find("1 of 2 repetitions have no figure"), std::string::npos) << figures.trouble;
  EXPECT_NE(figures.trouble.find("no idle power"), std::string::npos) << figures.trouble;
  const std::vector<Window> beyond = {{300, 310}};
  const auto nothing =
      energy_of(idle_then_busy(), {.repetitions = beyond, .n_tokens = 10, .battery_wh = 10, .words_per_token = 1});
  EXPECT_FALSE(nothing.joules || nothing.watts || nothing.joules_per_token || nothing.tokens_per_joule ||
               nothing.words_per_battery);
}

TEST(Energy, PowerThatDoesNotRiseAboveIdleHasNoActiveShare) {
  const std::vector<Window> repetitions = {{20, 40}};
  const auto figures =
      energy_of(idle_then_busy(), {.repetitions = repetitions, .n_tokens = 10, .idle = Window{50, 60}});
  EXPECT_NEAR(*figures.tokens_per_joule, 10 / 60.0, 1e-9);
  EXPECT_FALSE(figures.active_tokens_per_joule.has_value());
}

TEST(EnergySeries, ACounterNeedsNoSampleInsideOfTheWindow) {
  const EnergySeries counter(EnergySeries::Kind::kCounter, {{0, 0}, {10, 50}, {100, 320}}, 1);
  EXPECT_NEAR(*counter.joules({2, 4}), 10, 1e-9);
  EXPECT_NEAR(*counter.joules({0, 100}), 320, 1e-9);
  EXPECT_NEAR(*counter.joules({5, 55}), 25 + 135, 1e-9);
  EXPECT_FALSE(counter.joules({50, 101}).has_value());
  EXPECT_FALSE(EnergySeries(EnergySeries::Kind::kCounter, {}, 1).joules({0, 1}).has_value());
}

/// A source whose value the test sets, or that counts `watts` of real time.
class FakeSource : public PowerSource {
 public:
  FakeSource(Kind kind, double watts, std::atomic<bool>* broken = nullptr)
      : kind_(kind), watts_(watts), broken_(broken) {}
  Kind kind() const override { return kind_; }
  std::string description() const override { return "fake"; }
  std::chrono::milliseconds interval() const override { return std::chrono::milliseconds(5); }
  Expected<double> read() override {
    if (broken_ != nullptr && *broken_) return fail(ErrorCode::kIo, "the plug was pulled");
    return kind_ == Kind::kPower ? watts_ : watts_ * (unix_seconds() - begin_);
  }

 private:
  Kind kind_;
  double watts_, begin_ = unix_seconds();
  std::atomic<bool>* broken_;
};

TEST(PowerRecorder, CoversWhatLiesBetweenTwoMarks) {
  for (const auto kind : {PowerSource::Kind::kPower, PowerSource::Kind::kCounter}) {
    PowerRecorder recorder(std::make_unique<FakeSource>(kind, 7));
    recorder.mark();
    Window window = {unix_seconds(), 0};
    // On a busy machine the thread may be late.
    for (int i = 0; i < 1000 && recorder.series()->samples().size() < 6; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    window.end = unix_seconds();
    recorder.mark();
    ASSERT_EXPECTED(const auto series, recorder.series());
    EXPECT_GE(series.samples().size(), 7u) << "nothing was read meanwhile";
    EXPECT_NEAR(series.joules(window).value_or(-1), 7 * window.seconds(), 0.05 * 7 * window.seconds());
  }
}

TEST(PowerRecorder, ASourceThatFailsMakesTheRecordFail) {
  std::atomic<bool> broken = false;
  PowerRecorder recorder(std::make_unique<FakeSource>(PowerSource::Kind::kPower, 7, &broken));
  EXPECT_TRUE(recorder.series().has_value());
  broken = true;
  recorder.mark();
  const auto series = recorder.series();
  ASSERT_FALSE(series.has_value());
  EXPECT_EQ(series.error().message, "the plug was pulled");
}

}  // namespace
}  // namespace shoehorn::eval
