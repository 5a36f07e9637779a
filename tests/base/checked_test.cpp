#include "base/checked.h"

#include <gtest/gtest.h>

namespace shoehorn {
namespace {

TEST(Checked, MultiplicationRefusesToWrap) {
  EXPECT_EQ(checked_mul(3, 4), 12u);
  EXPECT_EQ(checked_mul(0, UINT64_MAX), 0u);
  EXPECT_EQ(checked_mul(UINT64_MAX, 1), UINT64_MAX);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, uint64_t{1} << 31), uint64_t{1} << 63);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(checked_mul(UINT64_MAX, 2), std::nullopt);
}

TEST(Checked, AdditionRefusesToWrap) {
  EXPECT_EQ(checked_add(UINT64_MAX, 0), UINT64_MAX);
  EXPECT_EQ(checked_add(UINT64_MAX, 1), std::nullopt);
  EXPECT_EQ(checked_add(uint64_t{1} << 63, uint64_t{1} << 63), std::nullopt);
}

TEST(Checked, RangesNeverWrap) {
  EXPECT_TRUE(range_inside(0, 0, 0));
  EXPECT_TRUE(range_inside(10, 0, 10));
  EXPECT_TRUE(range_inside(3, 7, 10));
  EXPECT_FALSE(range_inside(3, 8, 10));
  EXPECT_FALSE(range_inside(11, 0, 10));
  EXPECT_FALSE(range_inside(UINT64_MAX, 2, 10));
  EXPECT_FALSE(range_inside(1, UINT64_MAX, 10));
  EXPECT_TRUE(range_inside(1, UINT64_MAX - 1, UINT64_MAX));
}

TEST(Checked, RoundUpGoesToTheNextMultiple) {
  EXPECT_EQ(round_up(0, 32), 0u);
  EXPECT_EQ(round_up(1, 32), 32u);
  EXPECT_EQ(round_up(32, 32), 32u);
  EXPECT_EQ(round_up(33, 12), 36u);
}

}  // namespace
}  // namespace shoehorn
