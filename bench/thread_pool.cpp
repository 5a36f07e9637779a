// What ThreadPool::parallel_for costs: the hand-off itself, and work in the sizes of a token's products. bench_thread_pool
// [MAX_THREADS]
#include "base/thread_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>

namespace {

void busy(int rounds) {
  for (int i = 0; i < rounds; ++i) asm volatile("" ::: "memory");
}

/// Median and range over 9 repetitions of the microseconds per call that hands out `n_ranges` of `rounds` loop rounds each.
void measure(shoehorn::ThreadPool& pool, int n_calls, size_t n_ranges, int rounds) {
  std::array<double, 9> times;
  for (double& time : times) {
    const auto start = std::chrono::steady_clock::now();
    for (int call = 0; call < n_calls; ++call) {
      pool.parallel_for(n_ranges, 1, [&](size_t, size_t, int) { busy(rounds); });
      busy(rounds / 16);  // the caller's own part
    }
    time = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / n_calls;
  }
  std::sort(times.begin(), times.end());
  fmt::print("{:2} threads, {:3} ranges of {:6} rounds: {:8.2f} us ({:.2f} to {:.2f})\n", pool.size(), n_ranges, rounds,
             times[4], times.front(), times.back());
}

}  // namespace

int main(int argc, char** argv) {
  const int most = argc > 1 ? std::atoi(argv[1]) : 2 * shoehorn::default_thread_count();
  for (int n_threads = 1; n_threads <= most; n_threads *= 2) {
    shoehorn::ThreadPool pool(n_threads);
    measure(pool, 20'000, 2, 0);
    measure(pool, 20'000, 16, 0);
    measure(pool, 2'000, 16, 3'000);
    measure(pool, 1'000, 32, 10'000);
    measure(pool, 200, 32, 60'000);
  }
}
