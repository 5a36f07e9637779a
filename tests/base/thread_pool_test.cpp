#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace shoehorn {
namespace {

TEST(ThreadPool, VisitsEveryIndexExactlyOnce) {
  for (int n_threads = 1; n_threads <= 4; ++n_threads) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.size(), n_threads);
    for (const size_t n : {size_t{0}, size_t{1}, size_t{2}, size_t{7}, size_t{64}, size_t{1000}, size_t{10'007}}) {
      for (const size_t grain : {size_t{1}, size_t{3}, size_t{64}, size_t{20'000}}) {
        std::vector<std::atomic<int>> visits(n);
        std::atomic<bool> good{true};
        pool.parallel_for(n, grain, [&](size_t begin, size_t end, int thread) {
          if (begin >= end || end > n || end - begin > grain || thread < 0 || thread >= n_threads) good = false;
          for (size_t i = begin; i < end; ++i) visits[i].fetch_add(1);
        });
        EXPECT_TRUE(good);
        for (const auto& v : visits) ASSERT_EQ(v.load(), 1) << n << " " << grain;
      }
    }
  }
}

TEST(ThreadPool, RangesAreNotSplitBelowTheGrain) {
  ThreadPool pool(3);
  std::mutex mutex;
  std::set<std::pair<size_t, size_t>> ranges;
  pool.parallel_for(100, 16, [&](size_t begin, size_t end, int) {
    const std::lock_guard lock(mutex);
    ranges.emplace(begin, end);
  });
  size_t expected = 0;
  for (const auto& [begin, end] : ranges) {
    EXPECT_EQ(begin, expected);
    EXPECT_TRUE(end - begin == 16 || end == 100);
    expected = end;
  }
  EXPECT_EQ(expected, 100u);
}

TEST(ThreadPool, NothingIsCalledForNothing) {
  ThreadPool pool(2);
  pool.parallel_for(0, 1, [](size_t, size_t, int) { FAIL(); });
  pool.parallel_for(0, 0, [](size_t, size_t, int) { FAIL(); });
}

TEST(ThreadPool, SurvivesManyShortCalls) {
  for (int n_threads = 1; n_threads <= 4; ++n_threads) {
    ThreadPool pool(n_threads);
    std::vector<int> sum(static_cast<size_t>(n_threads) * 16);  // one cache line a thread, no atomics
    const int n_calls = 3'000;
    for (int call = 0; call < n_calls; ++call) {
      pool.parallel_for(8, 1, [&](size_t begin, size_t end, int thread) {
        sum[static_cast<size_t>(thread) * 16] += static_cast<int>(end - begin);
      });
    }
    EXPECT_EQ(std::accumulate(sum.begin(), sum.end(), 0), 8 * n_calls);
  }
}

TEST(ThreadPool, WritesOfTheWorkersAreSeenAfterwards) {
  ThreadPool pool(4);
  std::vector<size_t> data(4096);
  for (size_t round = 1; round <= 300; ++round) {
    pool.parallel_for(data.size(), 64, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) data[i] += i;
    });
    for (size_t i = 0; i < data.size(); i += 97) ASSERT_EQ(data[i], i * round);
  }
}

TEST(ThreadPool, WakesAfterALongPause) {
  ThreadPool pool(2);
  for (int i = 0; i < 3; ++i) {
    std::atomic<size_t> n{0};
    pool.parallel_for(100, 1, [&](size_t begin, size_t end, int) { n += end - begin; });
    EXPECT_EQ(n, 100u);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
}

TEST(ThreadPool, UsesSeveralThreads) {
  ThreadPool pool(2);
  std::atomic<int> seen{0};
  // Both must be inside at once; a pool that runs all on one thread would never return, hence the time limit.
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  pool.parallel_for(2, 1, [&](size_t, size_t, int) {
    ++seen;
    while (seen < 2 && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  });
  EXPECT_EQ(seen, 2);
  EXPECT_LT(std::chrono::steady_clock::now(), limit);
}

TEST(ThreadPool, ThreadsStayOnTheirCpus) {
  const CpuSet allowed = thread_affinity();
  const CpuSet last = {allowed.back()};
  // In a thread of its own: the caller is bound too.
  std::thread([&] {
    for (int n_threads = 1; n_threads <= 3; ++n_threads) {
      ThreadPool loose(n_threads, {.cpus = allowed}), bound(n_threads, {.cpus = last}),
          strict(n_threads, {.cpus = allowed, .strict = true});
      std::mutex mutex;
      const auto seen = [&](ThreadPool& pool) {
        std::vector<CpuSet> sets(static_cast<size_t>(n_threads));
        pool.parallel_for(64, 1, [&](size_t, size_t, int thread) {
          const std::lock_guard lock(mutex);
          sets[static_cast<size_t>(thread)] = thread_affinity();
          std::this_thread::sleep_for(std::chrono::microseconds(100));
        });
        return sets;
      };
      for (int repeat = 0; repeat < 2; ++repeat) {
        for (const CpuSet& set : seen(bound)) EXPECT_TRUE(set.empty() || set == last);
        for (const CpuSet& set : seen(loose)) EXPECT_TRUE(set.empty() || set == allowed);
        const auto sets = seen(strict);
        EXPECT_EQ(sets[0], CpuSet{allowed[0]});
        for (size_t i = 1; i < sets.size(); ++i) {
          EXPECT_TRUE(sets[i].empty() || sets[i] == CpuSet{allowed[i % allowed.size()]});
        }
      }
    }
  }).join();
}

TEST(ThreadPool, CpusThatThereAreNotAreIgnored) {
  std::thread([] {
    ThreadPool pool(2, {.cpus = {kMaxCpus - 1}});
    std::atomic<size_t> n{0};
    pool.parallel_for(100, 1, [&](size_t begin, size_t end, int) { n += end - begin; });
    EXPECT_EQ(n, 100u);
  }).join();
}

TEST(ThreadPool, StartsAndStopsWithoutWork) {
  for (int i = 0; i < 100; ++i) ThreadPool pool(1 + i % 4);
}

TEST(ThreadPool, TheDefaultIsAtLeastOne) {
  EXPECT_GE(default_thread_count(), 1);
  EXPECT_LE(default_thread_count(), static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

}  // namespace
}  // namespace shoehorn
