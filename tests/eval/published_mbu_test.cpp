// The bandwidth utilizations that were published for a pruned Llama-3.1-8B, computed again from the figures beside
// them. docs/benchmarks.md discusses them.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "eval/bench.h"

namespace shoehorn::eval {
namespace {

constexpr double kGib = 1024.0 * 1024 * 1024;
constexpr double kPeak = 50e9;  // what the published shares imply, see below

struct Row {
  const char* model;
  double ttft_s, ttlt_s, mbu_percent, tps;
  double size_gb;     ///< as the table of sizes has it, "GB"
  double file_bytes;  ///< what the file really has
  double embedding_bytes;
};

constexpr double kBefore = 8'030'261'248, kAfter = 6'973'296'640;  // parameters
constexpr double kEmbedding = 128256.0 * 4096;

const std::vector<Row> kTable = {
    {"base F16", 29.27, 60.95, 129.8, 4.04, 16.0, 2 * kBefore, 2 * kEmbedding},
    {"pruned F16", 20.82, 71.21, 66.0, 2.54, 12.99, 2 * kAfter, 2 * kEmbedding},
    {"pruned Q4_K_M", 11.38, 30.77, 53.0, 6.60, 3.99, 3.9936 * kGib, 4.5 / 8 * kEmbedding},
    {"pruned Q3_K_M", 6.34, 12.63, 133.0, 20.34, 3.27, 3.2691 * kGib, 3.4375 / 8 * kEmbedding},
};

double percent(double bytes, double tps) { return 100 * bandwidth_utilization(bytes, 1 / tps, kPeak); }

TEST(PublishedMbu, RatesAreAnAnswerOf128TokensBetweenFirstAndLast) {
  for (const Row& row : kTable) EXPECT_NEAR(128 / (row.ttlt_s - row.ttft_s), row.tps, 0.015) << row.model;
  // So do ours, from the same two times.
  BenchResult result;
  result.test = {512, 128, 0};
  result.ttft_ms = 11380;
  result.ttlt_ms = 30770;
  EXPECT_NEAR(result.answer_ts(), 6.60, 0.005);
}

/// The paper's other table of times, of a Raspberry Pi 4.
TEST(PublishedMbu, OneOfTwoRatesOnTheRaspberryPiIsNotThatOfItsTimes) {
  EXPECT_NEAR(128 / (181.25 - 3.47), 0.72, 0.005) << "AWQ Q4_K";
  EXPECT_NEAR(128 / (189.86 - 4.35), 0.69, 0.005) << "standard Q4_K_M, printed as 0.80";
}

TEST(PublishedMbu, FollowsFromFileSizeAndFiftyGigabytesPerSecondWhereGibAreTakenForGb) {
  // The base is right in true gigabytes (16.06), the pruned F16 and Q3_K_M in the printed GiB called GB.
  EXPECT_NEAR(percent(kTable[0].file_bytes, kTable[0].tps), kTable[0].mbu_percent, 0.1);
  for (const size_t i : {1, 3})
    EXPECT_NEAR(percent(kTable[i].size_gb * 1e9, kTable[i].tps), kTable[i].mbu_percent, 0.1) << kTable[i].model;
  // Q4_K_M is 0.6 % off: it takes 4.015 GB for 53.0 %, more than rounding of 3.99 allows.
  EXPECT_NEAR(percent(3.99e9, 6.60), 52.67, 0.01);
  EXPECT_NEAR(percent(4.015e9, 6.60), 53.0, 0.01);
}

TEST(PublishedMbu, IsAnotherInTrueBytes) {
  EXPECT_NEAR(kTable[1].file_bytes / kGib, kTable[1].size_gb, 0.005) << "12.99 is GiB";
  EXPECT_NEAR(percent(kTable[1].file_bytes, kTable[1].tps), 70.8, 0.1);
  EXPECT_NEAR(percent(kTable[2].file_bytes, kTable[2].tps), 56.6, 0.1);
  EXPECT_NEAR(percent(kTable[3].file_bytes, kTable[3].tps), 142.8, 0.1);
}

TEST(PublishedMbu, IsSmallerWithoutTheEmbeddingOfWhichATokenReadsOneRow) {
  const std::vector<double> ours = {121.3, 65.5, 52.7, 133.6};
  for (size_t i = 0; i < kTable.size(); ++i)
    EXPECT_NEAR(percent(kTable[i].file_bytes - kTable[i].embedding_bytes, kTable[i].tps), ours[i], 0.1)
        << kTable[i].model;
}

TEST(PublishedMbu, CannotAllBeSharesOfOneMemorysPeak) {
  // More than all of the peak was read: it is no peak.
  EXPECT_GT(kTable[0].tps * (kTable[0].file_bytes - kTable[0].embedding_bytes), kPeak);
  EXPECT_GT(kTable[3].tps * (kTable[3].file_bytes - kTable[3].embedding_bytes), kPeak);
  // One machine's memory does not serve 82 % of the bytes 3.08 times as often.
  const double bytes = kTable[3].file_bytes / kTable[2].file_bytes, rate = kTable[3].tps / kTable[2].tps;
  EXPECT_NEAR(bytes, 0.82, 0.005);
  EXPECT_NEAR(rate, 3.08, 0.005);
  // And 13 % fewer weights of the same type were read at 63 % of the rate.
  EXPECT_NEAR(kTable[1].tps / kTable[0].tps, 0.63, 0.005);
}

}  // namespace
}  // namespace shoehorn::eval
