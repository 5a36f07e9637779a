// Types for a size: the knapsack against trying everything, and whole files.
#include "compress/calibrate/allocation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <random>

#include "compress/calibrate/calibrated.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

namespace fs = std::filesystem;
using Items = std::vector<std::vector<TypeChoice>>;

struct Sum {
  uint64_t bytes = 0;
  double cost = 0;
};

Sum sum_of(const Items& items, const std::vector<size_t>& chosen) {
  Sum sum;
  for (size_t i = 0; i < items.size(); ++i) {
    sum.bytes += items[i][chosen[i]].bytes;
    sum.cost += items[i][chosen[i]].cost;
  }
  return sum;
}

double least_by_trying(const Items& items, uint64_t budget) {
  double least = std::numeric_limits<double>::infinity();
  std::vector<size_t> chosen(items.size());
  while (true) {
    const Sum sum = sum_of(items, chosen);
    if (sum.bytes <= budget) least = std::min(least, sum.cost);
    size_t i = 0;
    while (i < items.size() && ++chosen[i] == items[i].size()) chosen[i++] = 0;
    if (i == items.size()) return least;
  }
}

TEST(CheapestChoices, AreTheLeastOfAll) {
  std::mt19937 random(9);
  for (int trial = 0; trial < 200; ++trial) {
    Items items(5);
    uint64_t least = 0, most = 0;
    for (auto& choices : items) {
      uint64_t smallest = UINT64_MAX, largest = 0;
      for (int k = 0; k < 4; ++k) {
        choices.push_back({48 * (1 + random() % 200), static_cast<double>(random() % 1000)});
        smallest = std::min(smallest, choices.back().bytes);
        largest = std::max(largest, choices.back().bytes);
      }
      least += smallest;
      most += largest;
    }
    const uint64_t budget = least + random() % (most - least + 100);
    ASSERT_EXPECTED(const auto chosen, cheapest_choices(items, budget));
    const Sum sum = sum_of(items, chosen);
    EXPECT_LE(sum.bytes, budget);
    EXPECT_EQ(sum.cost, least_by_trying(items, budget));
  }
}

TEST(CheapestChoices, SizesWithoutACommonDivisorStayWithinTheBudget) {
  std::mt19937_64 random(10);
  Items items(30);
  uint64_t least = 0;
  for (auto& choices : items) {
    const uint64_t size = uint64_t{1} << 30;
    for (int k = 1; k <= 6; ++k) {
      choices.push_back({static_cast<uint64_t>(k) * size + random() % 1000003, 1.0 / static_cast<double>(k * k * k)});
    }
    least += choices.front().bytes;
  }
  for (const double share : {1.0, 1.3, 2.5, 10.0}) {
    const auto budget = static_cast<uint64_t>(share * static_cast<double>(least));
    ASSERT_EXPECTED(const auto chosen, cheapest_choices(items, budget));
    EXPECT_LE(sum_of(items, chosen).bytes, budget);
  }
  const auto refused = cheapest_choices(items, least - 1);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find(std::to_string(least)), std::string::npos) << refused.error().message;
}

struct Job {
  CalibratedOptions options;
  convert::OutputOptions output;
};

Job tiny_job() {
  const std::string dir = test::temp_dir();
  std::string text;
  for (int i = 0; i < 6000; ++i) text += static_cast<char>('a' + (i * 7 + i / 5 * 3 + i / 97) % 26);
  test::write_text(dir + "/calib.txt", text);
  Job job;
  job.options.model = test::make_tiny_checkpoint(test::tiny_config()).directory;
  job.options.out = dir + "/out.gguf";
  job.options.method = "rtn";
  job.options.calib = dir + "/calib.txt";
  job.options.samples = 12;
  job.options.seq_len = 32;
  job.options.dtype = "f32";
  job.options.rounds = 2;
  job.output.mix = quant::find_mix("Q4_0");
  job.output.n_threads = 1;
  return job;
}

TEST(Allocation, FilesAreNoLargerThanAskedForAndPinnedTensorsStay) {
  Job job = tiny_job();
  job.output.overrides = {{"ffn_down", quant::Type::Q8_0}};
  NoProgress progress;
  for (const char* method : {"rtn", "gptq"}) {
    job.options.method = method;
    for (const uint64_t target : {uint64_t{93000}, uint64_t{113000}}) {
      job.options.target_bytes = target;
      ASSERT_EXPECTED(const auto report, quantize_calibrated(job.options, job.output, progress));
      EXPECT_LE(fs::file_size(job.options.out), target);
      EXPECT_GT(fs::file_size(job.options.out), target - target / 10);
      for (const auto& tensor : report.tensors) {
        if (tensor.name.find("ffn_down.weight") != std::string::npos) {
          EXPECT_EQ(tensor.to, quant::Type::Q8_0) << tensor.name;
        }
      }
    }
  }
  job.options.target_bytes = 20000;
  const auto refused = quantize_calibrated(job.options, job.output, progress);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("20000"), std::string::npos) << refused.error().message;
}

TEST(Allocation, BitsPerWeightAreThoseOfTheTensors) {
  Job job = tiny_job();
  job.options.target_bpw = 6;
  job.output.mix = nullptr;
  NoProgress progress;
  ASSERT_EXPECTED(const auto report, quantize_calibrated(job.options, job.output, progress));
  EXPECT_LE(report.bits_per_weight, 6.0);
  EXPECT_GT(report.bits_per_weight, 5.7);
  ASSERT_TRUE(report.costs.has_value());
  EXPECT_GT(report.costs->kl, 0);
  EXPECT_GT(report.costs->tokens, 0);
  size_t matrices = 0;
  for (const auto& tensor : report.tensors) matrices += tensor.shape.size() > 1 ? 1 : 0;
  EXPECT_EQ(report.costs->of.size(), matrices) << "what each matrix costs";
  job.options.target_bpw = 0;
  job.output.mix = quant::find_mix("Q4_0");
  ASSERT_EXPECTED(const auto plain, quantize_calibrated(job.options, job.output, progress));
  EXPECT_FALSE(plain.costs.has_value()) << "nothing was measured";
}

TEST(SlowAllocation, LosesLessThanAMixOfTheSameSize) {
  Job job = tiny_job();
  const std::string fable = test::source_dir() + "/models/fable-10m";
  job.options.model = fable;
  job.options.calib = fable + "/calib.txt";
  job.options.samples = 16;
  job.options.seq_len = 128;
  job.output.mix = quant::find_mix("Q3_K_M");
  job.output.n_threads = 0;
  struct Remember : NoProgress {
    void note(std::string_view text) override { notes += std::string(text) + "\n"; }
    std::string notes;
  } progress;
  job.options.target_bytes = 5097568;  // what the mix takes
  ASSERT_EXPECTED(const auto report, quantize_calibrated(job.options, job.output, progress));
  EXPECT_LE(report.file_bytes, job.options.target_bytes);
  double first = 0, second = 0;
  const size_t at = progress.notes.find("choice 1"), next = progress.notes.find("choice 2");
  ASSERT_NE(next, std::string::npos) << progress.notes;
  std::sscanf(progress.notes.c_str() + progress.notes.find("KL", at), "KL %lf", &first);
  std::sscanf(progress.notes.c_str() + progress.notes.find("KL", next), "KL %lf", &second);
  EXPECT_LT(second, 0.8 * first) << progress.notes;
}

}  // namespace
}  // namespace shoehorn::compress
