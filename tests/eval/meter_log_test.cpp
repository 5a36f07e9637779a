#include "eval/meter_log.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <ctime>

#include "support/support.h"

namespace shoehorn::eval {
namespace {

Expected<EnergySeries> read(const std::string& text, const MeterLogOptions& options = {}) {
  const std::string path = test::temp_dir() + "/meter.csv";
  test::write_text(path, text);
  return read_meter_log(path, options);
}

/// Samples once a second from `begin` on, of a power that rises by a watt a second.
std::string ramp(double begin, int n, const char* header = "time_s,power_w\n") {
  std::string text = header;
  for (int i = 0; i < n; ++i) text += fmt::format("{:.3f},{}\n", begin + i, 2 + i);
  return text;
}

constexpr double kBegin = 1'780'000'000;  // 2026-05-28T20:26:40Z

TEST(MeterLog, IntegratesPowerOverTheWindowWithItsEdgesBetweenSamples) {
  ASSERT_EXPECTED(const auto series, read(ramp(kBegin, 11)));
  // P(t) = 2 + t from 1.5 to 6.25.
  ASSERT_EXPECTED(const double joules, series.joules({kBegin + 1.5, kBegin + 6.25}));
  EXPECT_NEAR(joules, 2 * 4.75 + (6.25 * 6.25 - 1.5 * 1.5) / 2, 1e-6);
}

TEST(MeterLog, UnitsComeFromTheHeader) {
  const Window window = {kBegin + 1, kBegin + 3};
  const std::vector<std::string> logs = {
      "time_s,power_w\n1780000000,5\n1780000001,5\n1780000002,5\n1780000004,5\n",
      "Timestamp (ms),Power (mW)\n1780000000000,5000\n1780000001000,5000\n1780000002000,5000\n1780000004000,5000\n",
      "\"t\",\"Vbus [V]\",\"Ibus [A]\"\n1780000000,5,1\n1780000001,5,1\n1780000002,5.0,1.00\n1780000004,+5,1\n",
      "unix us;U mV;I "
      "mA\n1780000000000000;5000;1000\n1780000001000000;5000;1000\n1780000002000000;5000,0;1000,0\n1780000004000000;"
      "5000;1000\n",
      "Model\tUM34C\nSerial\t0042\n\nDate/"
      "Time\tVoltage(V)\tCurrent(A)\tPower(W)\n2026-05-28T20:26:40Z\t4\t1\t5\n2026-05-28T20:26:41Z\t4\t1\t5\n"
      "2026-05-28 22:26:42.000+02:00\t4\t1\t5\n2026-05-28T15:26:44-0500\t4\t1\t5\n",
      "Date,Time,Power "
      "(W)\n2026-05-28,20:26:40Z,5\n2026-05-28,20:26:41Z,5\n2026-05-28,20:26:42Z,5\n2026-05-28,20:26:44.0Z,5\n",
      "date,power\n2026-05-28T20:26:40Z,5\n2026-05-28T20:26:41Z,5\n2026-05-28T20:26:42Z,5\n2026-05-28T20:26:44Z,5\n",
      "time,power\n1780000000,5\r\n1780000001,5\r\n1780000002,5\r\n1780000004,5\r\n",
      "\xef\xbb\xbftime,P (\xc2\xb5W)\n1780000000,5e6\n1780000001,5000000\n1780000002,5000000\n1780000004,5000000",
  };
  for (const std::string& log : logs) {
    ASSERT_EXPECTED(const auto series, read(log));
    ASSERT_EXPECTED(const double joules, series.joules(window));
    EXPECT_NEAR(joules, 10, 1e-5) << log;
  }
}

TEST(MeterLog, ADateWithoutAZoneIsLocalTime) {
  setenv("TZ", "UTC-3", 1);  // three hours east
  tzset();
  const auto series = read("time,power\n2026-05-28 23:26:40,4\n2026-05-28 23:26:41,4\n2026-05-28 23:26:42,4\n");
  unsetenv("TZ");
  tzset();
  ASSERT_TRUE(series.has_value()) << series.error().message;
  EXPECT_NEAR(*series->joules({kBegin, kBegin + 2}), 8, 1e-9);
}

TEST(MeterLog, AClockThatIsWrongIsSetRightByTheOffset) {
  // The meter's clock is 90.25 s slow.
  const std::string text = ramp(kBegin - 90.25, 11);
  const Window window = {kBegin + 1.5, kBegin + 6.25};
  ASSERT_EXPECTED(const auto wrong, read(text));
  const auto refused = wrong.joules(window);
  ASSERT_FALSE(refused.has_value()) << "samples of another time were used";
  EXPECT_NE(refused.error().message.find("cover"), std::string::npos) << refused.error().message;
  ASSERT_EXPECTED(const auto right, read(text, {.offset = 90.25, .has_offset = true}));
  EXPECT_NEAR(*right.joules(window), 2 * 4.75 + (6.25 * 6.25 - 1.5 * 1.5) / 2, 1e-4);
}

TEST(MeterLog, TimesFromTheLogsBeginNeedItsUnixTime) {
  const std::string text = ramp(0, 11);
  const auto without = read(text);
  ASSERT_FALSE(without.has_value());
  EXPECT_NE(without.error().message.find("--power-offset"), std::string::npos) << without.error().message;
  ASSERT_EXPECTED(const auto series, read(text, {.offset = kBegin, .has_offset = true}));
  EXPECT_NEAR(*series.joules({kBegin, kBegin + 10}), 20 + 50, 1e-6);
}

TEST(MeterLog, ShortGapsAreBridgedAndLongOnesRefusedWithTheirPlace) {
  std::string text = "time,power\n";
  for (const int second : {0, 1, 2, 5, 6, 16, 17, 18, 19})
    text += fmt::format("{},{}\n", static_cast<int64_t>(kBegin) + second, 3 + second);
  ASSERT_EXPECTED(const auto series, read(text));
  EXPECT_NEAR(*series.joules({kBegin, kBegin + 6}), 18 + 18, 1e-6) << "the gap of 3 s was not bridged";
  EXPECT_NEAR(*series.joules({kBegin + 16, kBegin + 19}), 9 + 52.5, 1e-6) << "a gap outside of the window matters";
  for (const Window& window :
       {Window{kBegin, kBegin + 19}, Window{kBegin + 2, kBegin + 10}, Window{kBegin + 12, kBegin + 19}}) {
    const auto joules = series.joules(window);
    ASSERT_FALSE(joules.has_value());
    EXPECT_NE(joules.error().message.find("no sample for 10.0 s from 1780000006.0 on"), std::string::npos)
        << joules.error().message;
    EXPECT_NE(joules.error().message.find("up to 5.0 s"), std::string::npos);
  }
  ASSERT_EXPECTED(const auto patient, read(text, {.max_gap = 10}));
  EXPECT_TRUE(patient.joules({kBegin, kBegin + 19}).has_value());
}

TEST(MeterLog, RowsWithoutAValueAreAGap) {
  const auto series =
      read("time,power\n1780000000,1\n1780000001,\n1780000002,nan\n1780000003,--\n\n1780000004,1\n1780000005,1\n",
           {.max_gap = 3});
  ASSERT_TRUE(series.has_value()) << series.error().message;
  EXPECT_EQ(series->samples().size(), 3u);
  EXPECT_FALSE(series->joules({kBegin, kBegin + 5}).has_value());
}

TEST(MeterLog, SamplesOfTheSameSecondAreAveraged) {
  ASSERT_EXPECTED(const auto series,
                  read("time,power\n1780000000,1\n1780000000,2\n1780000000,6\n1780000001,3\n1780000002,3\n"));
  EXPECT_NEAR(*series.joules({kBegin, kBegin + 2}), 6, 1e-9);
}

TEST(MeterLog, AWindowWithoutTwoSamplesHasNoFigure) {
  ASSERT_EXPECTED(const auto series, read(ramp(kBegin, 11)));
  for (const Window& window : {Window{kBegin + 1.2, kBegin + 1.8}, Window{kBegin + 1.5, kBegin + 2.5}}) {
    const auto joules = series.joules(window);
    ASSERT_FALSE(joules.has_value());
    EXPECT_NE(joules.error().message.find("longer test"), std::string::npos) << joules.error().message;
  }
}

TEST(MeterLog, DamagedLogsAreRefusedWithTheLine) {
  for (const auto& [text, part] : std::vector<std::pair<std::string, std::string>>{
           {"", "no line names columns"},
           {"time,temperature\n1780000000,20\n", "no line names columns"},
           {"time,voltage\n1780000000,5\n", "no line names columns"},
           {"time,power\n", "no measurement"},
           {"time,power\n1780000000,5\n1780000001,five\n1780000002,5\n",
            "meter.csv:3: \"1780000001,five\" is not a measurement"},
           {"time,power\nyesterday,5\n1780000002,5\n", "meter.csv:2: \"yesterday,5\" is not a time"},
           {"time,power\n2026-13-28T20:26:40Z,5\n1780000002,5\n", "meter.csv:2"},
           {"time,power\n1780000000,inf\n1780000002,5\n", "meter.csv:2"},
           {"time,power\n1780000010,5\n1780000002,5\n", "meter.csv:3: the time goes back by 8.000 s"}}) {
    const auto series = read(text);
    ASSERT_FALSE(series.has_value()) << text;
    EXPECT_NE(series.error().message.find(part), std::string::npos) << series.error().message;
  }
  EXPECT_EQ(read_meter_log("/no/such/log.csv", {}).error().code, ErrorCode::kNotFound);
}

TEST(MeterLog, EveryTruncationIsReadOrRefused) {
  const std::string text =
      "Meter X\nDate/Time;Voltage (V);Current (mA)\n2026-05-28T20:26:40Z;5,01;900\n2026-05-28T20:26:41Z;5,02;901\n";
  size_t n_read = 0;
  for (size_t n = 0; n <= text.size(); ++n) n_read += read(text.substr(0, n)).has_value() ? 1 : 0;
  EXPECT_GT(n_read, 30u);  // from the first whole measurement on
}

}  // namespace
}  // namespace shoehorn::eval
