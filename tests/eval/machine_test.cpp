#include "eval/machine.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace shoehorn::eval {
namespace {

// From the slowest board that one would run a model on to the fastest server that one could buy.
TEST(Machine, ReadsMemoryAtAPlausibleRate) {
  for (const int n_threads : {1, 2}) {
    ASSERT_EXPECTED(const double bandwidth, measure_read_bandwidth(n_threads));
    EXPECT_GT(bandwidth, 0.2e9);
    EXPECT_LT(bandwidth, 5e12) << "the reads were optimized away";
  }
}

TEST(Machine, MultipliesAtAPlausibleRate) {
  ASSERT_EXPECTED(const kernels::KernelSet* const set, kernels::select_kernel_set());
  const double peak = measure_multiply_peak(set->table(), 1);
  EXPECT_GT(peak, 1e8);
  EXPECT_LT(peak, 1e14) << "the products were optimized away";
}

TEST(Machine, HasAName) {
  EXPECT_NE(cpu_name(), "");
  EXPECT_EQ(cpu_name().find('\n'), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::eval
