#include "eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/metric.h"
#include "support/support.h"

namespace shoehorn::eval {
namespace {

TEST(Wilson, GivesTheKnownIntervals) {
  EXPECT_NEAR(wilson_interval(5, 10).low, 0.23659, 1e-5);
  EXPECT_NEAR(wilson_interval(5, 10).high, 0.76341, 1e-5);
  EXPECT_EQ(wilson_interval(0, 10).low, 0);
  EXPECT_NEAR(wilson_interval(0, 10).high, 0.27753, 1e-5);
  // Newcombe 1998, table I: 81 of 263.
  EXPECT_NEAR(wilson_interval(81, 263).low, 0.2553, 5e-5);
  EXPECT_NEAR(wilson_interval(81, 263).high, 0.3662, 5e-5);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(McNemar, CountsTheTailsOfTheBinomial) {
  EXPECT_NEAR(mcnemar_exact(1, 9), 22.0 / 1024, 1e-14);
  EXPECT_NEAR(mcnemar_exact(9, 1), 22.0 / 1024, 1e-14);
  EXPECT_EQ(mcnemar_exact(0, 0), 1);
  EXPECT_EQ(mcnemar_exact(7, 7), 1);
  EXPECT_NEAR(mcnemar_exact(30, 50), 0.0329926184, 1e-9);
  EXPECT_NEAR(mcnemar_exact(900, 1000), 0.0231088451, 1e-9);
  EXPECT_LT(mcnemar_exact(0, 2000), 1e-300);
}

TEST(PairedProportions, AreAgrestiAndMins) {
  const Interval interval = paired_proportion_interval(10, 5, 100);
  EXPECT_NEAR(interval.low, -0.0272507478, 1e-9);
  EXPECT_NEAR(interval.high, 0.1252899635, 1e-9);
}

TEST(Resampler, DrawsAsManyItemsAsThereAreAndTheSameForASeed) {
  Resampler a(50, 7), b(50, 7), c(50, 8);
  for (int i = 0; i < 5; ++i) {
    const auto counts = a.draw();
    uint32_t sum = 0;
    for (const uint32_t count : counts) sum += count;
    EXPECT_EQ(sum, 50u);
    EXPECT_EQ(counts, b.draw());
    EXPECT_NE(counts, c.draw());
  }
}

constexpr Metric kMean = {"mean", "", Metric::Kind::kRatio, 2, mean_of_sums};
constexpr Metric kShare = {"share", "", Metric::Kind::kProportion, 2, mean_of_sums};

std::vector<double> rows(const std::vector<double>& values) {
  std::vector<double> out;
  for (const double value : values) out.insert(out.end(), {value, 1});
  return out;
}

/// A deterministic spread of values with a known deviation.
std::vector<double> spread(size_t n) {
  std::vector<double> values;
  for (size_t i = 0; i < n; ++i) values.push_back(std::sin(static_cast<double>(i) * 12.9898) * 3);
  return values;
}

TEST(Bootstrap, OfAMeanIsAsWideAsTheNormalInterval) {
  const auto values = spread(400);
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / 400;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double half = kZ95 * std::sqrt(squares / 400) / std::sqrt(400.0);
  const Estimate figure = estimate(kMean, rows(values), {.resamples = 4000, .seed = 1});
  EXPECT_NEAR(figure.value, mean, 1e-12);
  EXPECT_NEAR(figure.interval.low, mean - half, 0.1 * half);
  EXPECT_NEAR(figure.interval.high, mean + half, 0.1 * half);
}

TEST(Bootstrap, OfPairsTakesOutWhatTheyHaveInCommon) {
  const auto values = spread(100);
  std::vector<double> shifted = values;
  for (double& value : shifted) value += 0.25;
  const Difference difference = compare(kMean, rows(shifted), rows(values), {});
  EXPECT_NEAR(difference.value, 0.25, 1e-12);
  EXPECT_NEAR(difference.interval.low, 0.25, 1e-9);
  EXPECT_NEAR(difference.interval.high, 0.25, 1e-9);
  EXPECT_LT(difference.p, 0.003);
  const Difference none = compare(kMean, rows(values), rows(values), {});
  EXPECT_EQ(none.value, 0);
  EXPECT_EQ(none.p, 1);
}

TEST(Comparison, OfProportionsCountsWhereTheyDisagree) {
  const Difference difference = compare(kShare, rows({1, 1, 0, 0, 1, 1}), rows({1, 0, 1, 0, 0, 0}), {});
  EXPECT_EQ(difference.only_a, 3u);
  EXPECT_EQ(difference.only_b, 1u);
  EXPECT_NEAR(difference.value, 2.0 / 6, 1e-12);
  EXPECT_DOUBLE_EQ(difference.p, mcnemar_exact(3, 1));
}

ItemResult item(const std::string& id, const std::string& prompt, double value) {
  ItemResult out = {.id = id, .record = {{"id", id}, {"prompt", prompt}}};
  put_row(out.record, kMean, {value, 1});
  return out;
}

TEST(Pairing, MatchesItemsByIdWhateverTheirOrder) {
  const std::vector<ItemResult> a = {item("x", "p", 1), item("y", "q", 2), item("z", "r", 3)};
  const std::vector<ItemResult> b = {item("z", "r", 30), item("x", "p", 10)};
  ASSERT_EXPECTED(const auto pairs, pair_items(a, b));
  ASSERT_EXPECTED(const auto rows_a, rows_of(kMean, pairs.a));
  ASSERT_EXPECTED(const auto rows_b, rows_of(kMean, pairs.b));
  EXPECT_EQ(rows_a, (std::vector<double>{1, 1, 3, 1}));
  EXPECT_EQ(rows_b, (std::vector<double>{10, 1, 30, 1}));
}

TEST(Pairing, RefusesOtherQuestionsAndRepeatedItems) {
  EXPECT_NE(
      pair_items(std::vector{item("x", "p", 1)}, std::vector{item("x", "other", 1)}).error().message.find("item x"),
      std::string::npos);
  EXPECT_FALSE(pair_items(std::vector{item("x", "p", 1)}, std::vector{item("y", "p", 1)}).has_value());
  EXPECT_FALSE(
      pair_items(std::vector{item("x", "p", 1), item("x", "p", 1)}, std::vector{item("x", "p", 1)}).has_value());
}

TEST(Rows, RefuseARecordWithoutThemNamingTheItem) {
  const std::vector<ItemResult> items = {{.id = "q7", .record = {{"sums", {{"mean", {1}}}}}}};
  const auto rows = rows_of(kMean, items);
  ASSERT_FALSE(rows.has_value());
  EXPECT_NE(rows.error().message.find("q7"), std::string::npos) << rows.error().message;
}

}  // namespace
}  // namespace shoehorn::eval
