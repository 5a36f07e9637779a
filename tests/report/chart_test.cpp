#include "report/chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>

#include "report/axis.h"
#include "well_formed.h"

namespace shoehorn::report {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

std::vector<std::string> labels(const Axis& axis) {
  std::vector<std::string> out;
  for (const auto& tick : axis.ticks()) out.push_back(tick.label);
  return out;
}

TEST(Axis, HasRoundTicksWithinItsEnds) {
  const std::vector<double> values = {3.2, 97};
  const Axis axis(values, false, true, 0, 100);
  EXPECT_EQ(labels(axis), (std::vector<std::string>{"0", "50", "100"}));
  EXPECT_DOUBLE_EQ(axis.at(axis.low()), 0);
  EXPECT_DOUBLE_EQ(axis.at(axis.high()), 100);
}

TEST(Axis, LogarithmicTicksAreOneTwoFiveOrPowers) {
  const std::vector<double> narrow = {1.3, 48}, wide = {1e-5, 2};
  EXPECT_EQ(labels(Axis(narrow, true, false, 0, 1)), (std::vector<std::string>{"2", "5", "10", "20", "50"}));
  EXPECT_EQ(labels(Axis(wide, true, false, 0, 1)),
            (std::vector<std::string>{"1e-05", "0.0001", "0.001", "0.01", "0.1", "1"}));
}

TEST(Axis, EqualRatiosAreEqualDistancesOnALogarithmicOne) {
  const std::vector<double> values = {1, 100};
  const Axis axis(values, true, false, 50, 450);
  EXPECT_NEAR(axis.at(10) - axis.at(1), axis.at(100) - axis.at(10), 1e-9);
  EXPECT_NEAR(axis.at(axis.low()), 50, 1e-9);
  EXPECT_NEAR(axis.at(axis.high()), 450, 1e-9);
}

TEST(Axis, ALogarithmicOneIsOverThePositiveValuesWhereThereAreAny) {
  const std::vector<double> some = {0, 5, 50, -1}, none = {0, -5};
  const Axis axis(some, true, false, 0, 1);
  EXPECT_TRUE(axis.is_log());
  EXPECT_GT(axis.low(), 4);
  EXPECT_FALSE(Axis(none, true, false, 0, 1).is_log());
}

TEST(Axis, BytesAreLabelledInTheirUnit) {
  const std::vector<double> values = {3 * 0x1p30, 16 * 0x1p30};
  EXPECT_EQ(labels(Axis(values, true, false, 0, 1, Unit::kBytes)), (std::vector<std::string>{"5 GiB", "10 GiB"}));
}

TEST(Axis, StandsWhateverTheValues) {
  for (const std::vector<double>& values :
       std::vector<std::vector<double>>{{}, {7}, {0}, {kNaN}, {-1e300, 1e300}, {1e-300, 1e300}, {5, 5, 5}}) {
    for (const bool log : {false, true}) {
      const Axis axis(values, log, false, 0, 100);
      EXPECT_LE(axis.ticks().size(), 60u);
      EXPECT_LT(axis.low(), axis.high());
    }
  }
}

TEST(FormatNumber, KeepsSignificantDigits) {
  EXPECT_EQ(format_number(0.0063964), "0.006396");
  EXPECT_EQ(format_number(53.0391, 5), "53.039");
  EXPECT_EQ(format_number(20), "20");
  EXPECT_EQ(format_number(12345.6), "12346");
  EXPECT_EQ(format_number(1.5e-7), "1.5e-07");
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_count(8030261248), "8,030,261,248");
  EXPECT_EQ(format_count(999), "999");
}

Chart some_chart() {
  return {"Quality <over> size",
          "Lower is better.",
          {"size", true},
          {"KL", true},
          {{"gptq & co", {{1e6, 0.1, 0.01, "a", "a: 0.1"}, {2e6, 0.01, 0.02, "b", "b: 0.01"}, {4e6, kNaN}, {4e6, 0}}},
           {"rtn", {{1e6, 0.2, kNaN, "c", ""}}}}};
}

TEST(Chart, IsWellFormedAndDrawsWhatIsThere) {
  const std::string svg = draw(some_chart()).str();
  EXPECT_EQ(test::what_is_malformed(svg), "");
  EXPECT_EQ(count(svg, "class=\"mark c0\""), 3u) << "two points and the legend's";
  EXPECT_EQ(count(svg, "class=\"mark c1\""), 2u);
  EXPECT_NE(svg.find("<title>a: 0.1</title>"), std::string::npos);
  EXPECT_NE(svg.find("gptq &amp; co"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(Chart, ErrorBarsAreThereWhereErrorsAreKnown) {
  EXPECT_EQ(count(draw(some_chart()).str(), "class=\"error c0\""), 2u);
  EXPECT_EQ(count(draw(some_chart()).str(), "class=\"error c1\""), 0u);
}

TEST(Chart, TellsScreenReadersWhatItShows) {
  const std::string svg = draw(some_chart()).str();
  EXPECT_NE(svg.find("role=\"img\""), std::string::npos);
  EXPECT_NE(svg.find("aria-label=\"Quality &lt;over&gt; size. Lower is better.\""), std::string::npos);
}

TEST(Chart, LabelsDoNotCoverOneAnother) {
  Chart chart{"", "", {"x"}, {"y"}, {{"s", {}}}};
  for (int i = 0; i < 200; ++i)
    chart.series[0].points.push_back({static_cast<double>(i), static_cast<double>(i * i % 17), kNaN, "label", ""});
  const std::string svg = draw(chart).str();
  const std::regex label("<text class=\"label\" x=\"([0-9.]+)\" y=\"([0-9.]+)\">label</text>");
  std::vector<std::pair<double, double>> places;
  for (std::sregex_iterator it(svg.begin(), svg.end(), label), end; it != end; ++it)
    places.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
  EXPECT_GT(places.size(), 3u);
  EXPECT_LT(places.size(), 100u);
  for (size_t i = 0; i < places.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      EXPECT_TRUE(std::abs(places[i].first - places[j].first) > 30 ||
                  std::abs(places[i].second - places[j].second) > 12)
          << i << ' ' << j;
    }
  }
}

TEST(Chart, LongLinesAreThinned) {
  Chart chart{"", "", {"x"}, {"y"}, {{"s", {}, Drawn::kLine}}};
  for (int i = 0; i < 100'000; ++i) chart.series[0].points.push_back({static_cast<double>(i), std::sin(i * 1e-4)});
  const std::string svg = draw(chart).str();
  EXPECT_LT(svg.size(), 30'000u);
  EXPECT_EQ(test::what_is_malformed(svg), "");
}

TEST(HeatMap, ColoursFollowTheValues) {
  HeatMap map{"Types",
              "",
              "layer",
              "bits",
              {"q", "v"},
              {"0", "1"},
              {{{2.5, "Q2_K", "low"}, {6.5, "Q6_K", "high"}}, {{}, {4.5, "Q4_K", "middle"}}}};
  const std::string svg = draw(map).str();
  EXPECT_EQ(test::what_is_malformed(svg), "");
  EXPECT_NE(svg.find("><title>low</title>"), std::string::npos);
  const auto colour_of = [&](const std::string& tooltip) {
    const size_t at = svg.rfind("class=\"h", svg.find("<title>" + tooltip));
    return svg[at + 8] - '0';
  };
  EXPECT_EQ(colour_of("low"), 0);
  EXPECT_EQ(colour_of("middle"), 4);
  EXPECT_EQ(colour_of("high"), 8);
}

TEST(HeatMap, OneValueOrNoneStillDraws) {
  for (const double value : {4.5, kNaN}) {
    HeatMap map{"Types", "", "layer", "bits", {"q"}, {"0"}, {{{value, "x", "t"}}}};
    EXPECT_EQ(test::what_is_malformed(draw(map).str()), "");
  }
}

}  // namespace
}  // namespace shoehorn::report
