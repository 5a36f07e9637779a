// The budget on trees as /proc and /sys have them on real machines.
#include "base/cpu_budget.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "support/support.h"

namespace shoehorn {
namespace {

CpuSet first_cpus(int n) {
  CpuSet cpus(static_cast<size_t>(n));
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

/// A root directory with files in it.
class Tree {
 public:
  void file(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    test::write_text(root_ + path, text + "\n");
  }
  void cpu(int i, const std::string& path, const std::string& text) {
    file("/sys/devices/system/cpu/cpu" + std::to_string(i) + "/" + path, text);
  }
  void membership(const std::string& lines) { file("/proc/self/cgroup", lines); }
  void mounts(const std::string& lines) { file("/proc/self/mountinfo", lines); }
  void v2_mount(const std::string& top = "/") {
    mounts("24 30 0:22 / /proc rw shared:5 - proc proc rw\n35 24 0:30 " + top +
           " /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate");
  }
  const std::string& root() const { return root_; }

 private:
  std::string root_ = test::temp_dir();
};

TEST(CpuBudget, WhatCannotBeReadSetsNoLimit) {
  const Tree tree;
  const CpuBudget budget = read_cpu_budget({0, 1, 5}, tree.root());
  EXPECT_EQ(budget.fast, (CpuSet{0, 1, 5}));
  EXPECT_EQ(budget.quota, 0);
  EXPECT_EQ(budget.default_threads(), 3);
}

TEST(CpuBudget, RaspberryPi5HasFourEqualCores) {
  Tree tree;
  for (int i = 0; i < 4; ++i) {
    tree.cpu(i, "cpu_capacity", "1024");
    tree.cpu(i, "cpufreq/cpuinfo_max_freq", "2400000");
    tree.cpu(i, "topology/thread_siblings_list", std::to_string(i));
  }
  EXPECT_EQ(fast_cores(first_cpus(4), tree.root()), first_cpus(4));
}

TEST(CpuBudget, LittleCoresAreLeftOutByCapacity) {
  Tree tree;  // RK3588: A55 0-3, A76 4-7, two clusters of which clock a little apart
  for (int i = 0; i < 8; ++i) {
    tree.cpu(i, "cpu_capacity", i < 4 ? "414" : i < 6 ? "1024" : "996");
    tree.cpu(i, "cpufreq/cpuinfo_max_freq", i < 4 ? "1800000" : i < 6 ? "2352000" : "2304000");
  }
  EXPECT_EQ(fast_cores(first_cpus(8), tree.root()), (CpuSet{4, 5, 6, 7}));
  EXPECT_EQ(read_cpu_budget(first_cpus(8), tree.root()).default_threads(), 4);
  // A process bound to the little ones has no faster.
  EXPECT_EQ(fast_cores({0, 1, 2}, tree.root()), (CpuSet{0, 1, 2}));
}

TEST(CpuBudget, LittleCoresThatClockHigherAreStillLittle) {
  Tree tree;  // S922X: A53 0-1 at 1.9 GHz, A73 2-5 at 1.7
  for (int i = 0; i < 6; ++i) {
    tree.cpu(i, "cpu_capacity", i < 2 ? "578" : "1024");
    tree.cpu(i, "cpufreq/cpuinfo_max_freq", i < 2 ? "1896000" : "1704000");
  }
  EXPECT_EQ(fast_cores(first_cpus(6), tree.root()), (CpuSet{2, 3, 4, 5}));
}

TEST(CpuBudget, WithoutCapacitiesTheClockDecides) {
  Tree tree;
  for (int i = 0; i < 8; ++i) tree.cpu(i, "cpufreq/cpuinfo_max_freq", i < 4 ? "5100000" : "3300000");
  EXPECT_EQ(fast_cores(first_cpus(8), tree.root()), first_cpus(4));
  for (int i = 0; i < 8; ++i) tree.cpu(i, "cpufreq/cpuinfo_max_freq", i < 2 ? "5100000" : "4900000");
  EXPECT_EQ(fast_cores(first_cpus(8), tree.root()), first_cpus(8)) << "preferred cores are not a cluster";
}

TEST(CpuBudget, HybridX86UsesOneThreadPerPerformanceCore) {
  Tree tree;  // i5-1240P: 4 P-cores with two threads each, 8 E-cores
  tree.file("/sys/devices/cpu_core/cpus", "0-7");
  tree.file("/sys/devices/cpu_atom/cpus", "8-15");
  for (int i = 0; i < 16; ++i) {
    const int even = i / 2 * 2;
    tree.cpu(i, "topology/core_cpus_list", i < 8 ? fmt::format("{}-{}", even, even + 1) : std::to_string(i));
    tree.cpu(i, "cpufreq/cpuinfo_max_freq", i < 8 ? "4400000" : "3300000");
  }
  EXPECT_EQ(fast_cores(first_cpus(16), tree.root()), (CpuSet{0, 2, 4, 6}));
  EXPECT_EQ(fast_cores({3, 9, 10}, tree.root()), (CpuSet{3}));
  EXPECT_EQ(fast_cores({9, 10}, tree.root()), (CpuSet{9, 10}));
}

TEST(CpuBudget, SmtSiblingsCountOnce) {
  Tree tree;  // siblings are i and i + 4
  for (int i = 0; i < 8; ++i) tree.cpu(i, "topology/thread_siblings_list", fmt::format("{},{}", i % 4, i % 4 + 4));
  EXPECT_EQ(fast_cores(first_cpus(8), tree.root()), first_cpus(4));
  EXPECT_EQ(fast_cores({1, 5, 6}, tree.root()), (CpuSet{1, 6}));
}

TEST(CpuQuota, V2OfTheOwnGroupAndThoseAbove) {
  Tree tree;
  tree.v2_mount();
  tree.membership("0::/user.slice/user-1000.slice/session-2.scope");
  EXPECT_EQ(cgroup_cpu_quota(tree.root()), 0);
  const std::string base = "/sys/fs/cgroup";
  tree.file(base + "/user.slice/user-1000.slice/session-2.scope/cpu.max", "max 100000");
  tree.file(base + "/user.slice/user-1000.slice/cpu.max", "250000 100000");
  tree.file(base + "/user.slice/cpu.max", "400000 100000");
  tree.file(base + "/system.slice/cpu.max", "10000 100000");
  EXPECT_EQ(cgroup_cpu_quota(tree.root()), 2.5);
  EXPECT_EQ(read_cpu_budget(first_cpus(8), tree.root()).default_threads(), 3);
  EXPECT_EQ(read_cpu_budget(first_cpus(2), tree.root()).default_threads(), 2);
  tree.file(base + "/user.slice/user-1000.slice/session-2.scope/cpu.max", "5000 100000");
  EXPECT_EQ(read_cpu_budget(first_cpus(8), tree.root()).default_threads(), 1);
}

TEST(CpuQuota, V2InAContainerWithAndWithoutItsOwnNamespace) {
  Tree own;  // the namespace makes the container's group the root of all it sees
  own.v2_mount();
  own.membership("0::/");
  own.file("/sys/fs/cgroup/cpu.max", "150000 100000");
  EXPECT_EQ(cgroup_cpu_quota(own.root()), 1.5);

  Tree host;  // the group is named as on the host, the mount starts at it
  host.v2_mount("/docker/4f1c");
  host.membership("0::/docker/4f1c/worker");
  host.file("/sys/fs/cgroup/cpu.max", "300000 100000");
  host.file("/sys/fs/cgroup/worker/cpu.max", "max 100000");
  EXPECT_EQ(cgroup_cpu_quota(host.root()), 3);
  host.file("/sys/fs/cgroup/worker/cpu.max", "200000 100000");
  EXPECT_EQ(cgroup_cpu_quota(host.root()), 2);

  Tree outside;  // joined from outside of the namespace
  outside.v2_mount("/../..");
  outside.membership("0::/../../other");
  outside.file("/sys/fs/cgroup/cpu.max", "100000 100000");
  EXPECT_EQ(cgroup_cpu_quota(outside.root()), 1);
}

TEST(CpuQuota, V1IsFoundWhereItIsMounted) {
  Tree tree;
  tree.mounts("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
              "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
              "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct");
  tree.membership("4:cpuset:/\n3:cpu,cpuacct:/kubepods/pod7/abc\n1:name=systemd:/init.scope");
  const std::string base = "/sys/fs/cgroup/cpu,cpuacct/kubepods/pod7";
  tree.file(base + "/abc/cpu.cfs_quota_us", "-1");
  tree.file(base + "/abc/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cgroup_cpu_quota(tree.root()), 0);
  tree.file(base + "/cpu.cfs_quota_us", "120000");
  tree.file(base + "/cpu.cfs_period_us", "60000");
  EXPECT_EQ(cgroup_cpu_quota(tree.root()), 2);
  tree.file(base + "/abc/cpu.cfs_quota_us", "50000");
  EXPECT_EQ(cgroup_cpu_quota(tree.root()), 0.5);
}

TEST(CpuQuota, BothVersionsAtOnce) {
  Tree tree;  // the controllers are v1's, v2 only tracks processes
  tree.mounts("33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
              "38 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw");
  tree.membership("1:cpu:/job\n0::/job");
  tree.file("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "400000");
  tree.file("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cgroup_cpu_quota(tree.root()), 4);
}

TEST(CpuQuota, NonsenseSetsNoLimit) {
  for (const char* text : {"", "-5 100000", "100000", "100000 0", "100000 -1", "nan nan", "x y"}) {
    Tree tree;
    tree.v2_mount();
    tree.membership("0::/");
    tree.file("/sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(cgroup_cpu_quota(tree.root()), 0) << text;
  }
  Tree tree;
  tree.mounts("- - -\n\n1 2 3 4 5 6 -\n-");
  tree.membership(":\n::\n0:\nx:cpu:relative\n0::relative");
  EXPECT_EQ(cgroup_cpu_quota(tree.root()), 0);
}

TEST(PlanThreads, TheBudgetDecidesUnlessTheUserDoes) {
  const CpuBudget budget = {.allowed = first_cpus(8), .fast = {0, 2, 4, 6}, .quota = 0};
  EXPECT_EQ(plan_threads({}, budget)->n, 4);
  EXPECT_EQ(plan_threads({.n = 7}, budget)->n, 7);
  EXPECT_EQ(plan_threads({.cpus = {1, 2, 3, 4, 5}}, budget)->n, 5);
  EXPECT_EQ(plan_threads({.n = 1, .cpus = {1, 2}}, budget)->n, 1);
  const CpuBudget held = {.allowed = first_cpus(8), .fast = {0, 2, 4, 6}, .quota = 1.2};
  EXPECT_EQ(plan_threads({}, held)->n, 2);
  EXPECT_EQ(plan_threads({.cpus = {1, 2, 3}}, held)->n, 2);
}

TEST(PlanThreads, StrictThreadsGetTheFastCores) {
  const CpuBudget budget = {.allowed = first_cpus(8), .fast = {0, 2, 4, 6}, .quota = 0};
  EXPECT_EQ(plan_threads({.strict = true}, budget)->cpus, budget.fast);
  EXPECT_EQ(plan_threads({.n = 5, .strict = true}, budget)->cpus, budget.allowed);
  EXPECT_EQ(plan_threads({.n = 5, .cpus = {1, 7}, .strict = true}, budget)->cpus, (CpuSet{1, 7}));
  EXPECT_TRUE(plan_threads({}, budget)->cpus.empty());
}

TEST(PlanThreads, ACpuOutOfReachIsNamed) {
  const CpuBudget budget = {.allowed = {0, 1, 3}, .fast = {0, 1, 3}, .quota = 0};
  const auto plan = plan_threads({.cpus = {1, 2}}, budget);
  ASSERT_FALSE(plan.has_value());
  EXPECT_NE(plan.error().message.find("CPU 2"), std::string::npos);
  EXPECT_NE(plan.error().message.find("0-1,3"), std::string::npos);
}

TEST(CpuBudget, OfThisProcess) {
  const CpuBudget& budget = cpu_budget();
  EXPECT_FALSE(budget.allowed.empty());
  EXPECT_FALSE(budget.fast.empty());
  EXPECT_EQ(intersect(budget.fast, budget.allowed), budget.fast);
  EXPECT_GE(budget.default_threads(), 1);
}

}  // namespace
}  // namespace shoehorn
