#include "base/cpu_set.h"

#include <gtest/gtest.h>

#include <thread>

#include "support/support.h"

namespace shoehorn {
namespace {

TEST(CpuSet, MasksAreHexadecimal) {
  EXPECT_EQ(parse_cpu_mask("1").value(), (CpuSet{0}));
  EXPECT_EQ(parse_cpu_mask("0xF0").value(), (CpuSet{4, 5, 6, 7}));
  EXPECT_EQ(parse_cpu_mask("0X8001").value(), (CpuSet{0, 15}));
  EXPECT_EQ(parse_cpu_mask("10000000000000000").value(), (CpuSet{64}));
  EXPECT_EQ(parse_cpu_mask("8" + std::string(kMaxCpus / 4 - 1, '0')).value(), (CpuSet{kMaxCpus - 1}));
  for (const std::string& bad : {std::string(), std::string("0x"), std::string("0"), std::string("-1"), std::string("g"),
                                 std::string("0x 1"), std::string("1,2"), "1" + std::string(kMaxCpus / 4, '0')}) {
    EXPECT_FALSE(parse_cpu_mask(bad).has_value()) << bad;
  }
}

TEST(CpuSet, RangesIncludeBothEnds) {
  EXPECT_EQ(parse_cpu_range("4-7").value(), (CpuSet{4, 5, 6, 7}));
  EXPECT_EQ(parse_cpu_range("0-0").value(), (CpuSet{0}));
  for (const char* bad : {"", "3", "-", "3-", "-3", "3-2", "0-4096", "1-2-3", "a-b", " 1-2", "1-99999999999"}) {
    const auto result = parse_cpu_range(bad);
    ASSERT_FALSE(result.has_value()) << bad;
    EXPECT_NE(result.error().message.find(bad), std::string::npos);
  }
}

TEST(CpuSet, ListsAreTheKernels) {
  EXPECT_EQ(parse_cpu_list("0-2,8,10-11\n"), (CpuSet{0, 1, 2, 8, 10, 11}));
  EXPECT_EQ(parse_cpu_list("5,0-2,1"), (CpuSet{0, 1, 2, 5}));
  for (const char* bad : {"", "\n", ",", "1,,2", "x", "2-1", "1-", "4096"}) EXPECT_EQ(parse_cpu_list(bad), CpuSet()) << bad;
  for (const char* list : {"0", "0-2,8,10-11", "3-4,6"}) EXPECT_EQ(format_cpu_list(parse_cpu_list(list)), list);
}

TEST(CpuSet, AThreadIsBoundToItsCpus) {
  const CpuSet before = thread_affinity();
  ASSERT_FALSE(before.empty());
  std::thread([&] {
    EXPECT_TRUE(set_thread_affinity({before.back()}).has_value());
    EXPECT_EQ(thread_affinity(), CpuSet{before.back()});
    const auto nowhere = set_thread_affinity({});
    ASSERT_FALSE(nowhere.has_value());
    EXPECT_FALSE(nowhere.error().message.empty());
  }).join();
  EXPECT_EQ(thread_affinity(), before) << "another thread was bound";
}

}  // namespace
}  // namespace shoehorn
