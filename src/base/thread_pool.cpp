#include "base/thread_pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/cpu_budget.h"

namespace shoehorn {
namespace {

using Clock = std::chrono::steady_clock;

// Products follow each other within microseconds through a whole token, so a thread that waits spins: a hand-off then costs
// the transfer of a cache line. It spins for as long as the caller's own work between two products takes, not longer, and then
// sleeps: waking it costs a system call, but the CPU is free for a thread that has work. (Spinning with sched_yield gives the
// CPU to any other process for a whole time slice: twice as slow beside one.)
constexpr auto kSpinTime = std::chrono::microseconds(100);
// With more threads than CPUs, whoever spins keeps a thread that has a range in its hands from running.
constexpr auto kCrowdedSpinTime = std::chrono::microseconds(15);

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // takes some ten cycles; "yield" takes none
#endif
}

/// Spins until ready(). False when it is time to sleep.
template <class Ready>
bool spin(Clock::duration time, Ready ready) {
  for (const auto limit = Clock::now() + time;;) {
    for (int i = 0; i < 16; ++i) {
      if (ready()) return true;
      cpu_relax();
    }
    if (Clock::now() >= limit) return ready();
  }
}

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);

/// Sleeps until woken, unless `word` no longer holds `expected`. May return for no reason.
void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace

struct ThreadPool::Impl {
  // A line for what all threads take ranges from, one for what they report to, one for those who sleep.
  struct alignas(64) {
    // Ranges not handed out yet; at most 0: nothing to do. Whoever takes it down from a positive number owns a range, and as
    // long as it has not reported that range done, the job cannot end: so the rest may be read then, and only then.
    std::atomic<int64_t> left{0};
    const FunctionRef<void(size_t, size_t, int)>* body = nullptr;
    size_t n = 0, grain = 1, n_ranges = 0;
  } job;
  struct alignas(64) {
    std::atomic<int64_t> unfinished{0};
    std::atomic<uint32_t> caller_sleeps{0};
  } report;
  struct alignas(64) {
    std::atomic<int> count{0};
    std::atomic<uint32_t> wakes{0};
    std::atomic<bool> stop{false};
  } sleepers;

  Affinity affinity;
  Clock::duration spin_time = kSpinTime;
  uint64_t id = 0;
  std::vector<std::thread> threads;

  /// Works off ranges and says how many.
  int64_t work(int thread) {
    for (int64_t done = 0;; ++done) {
      if (job.left.load(std::memory_order_relaxed) <= 0) return done;
      const int64_t left = job.left.fetch_sub(1, std::memory_order_acquire);
      if (left <= 0) return done;
      const size_t begin = (job.n_ranges - static_cast<size_t>(left)) * job.grain;
      (*job.body)(begin, begin + std::min(job.grain, job.n - begin), thread);
    }
  }

  void loop(int thread) {
    bind(thread);
    const auto called = [&] {
      return job.left.load(std::memory_order_relaxed) > 0 || sleepers.stop.load(std::memory_order_relaxed);
    };
    for (;;) {
      while (!spin(spin_time, called)) sleep();
      if (sleepers.stop.load(std::memory_order_relaxed)) return;
      const int64_t done = work(thread);
      // Sequentially consistent with the caller, which says that it sleeps before it looks a last time.
      if (done > 0 && report.unfinished.fetch_sub(done) == done && report.caller_sleeps.load() != 0) {
        report.caller_sleeps.store(0);
        futex_wake(report.caller_sleeps, 1);
      }
    }
  }

  /// A worker counts itself in before it looks a last time, and the caller offers work before it looks at the count.
  void sleep() {
    sleepers.count.fetch_add(1);
    const uint32_t wakes = sleepers.wakes.load();
    if (job.left.load() <= 0 && !sleepers.stop.load()) futex_wait(sleepers.wakes, wakes);
    sleepers.count.fetch_sub(1);
  }

  void wake(int64_t most) {
    const int n = sleepers.count.load();
    if (n == 0) return;
    sleepers.wakes.fetch_add(1);
    futex_wake(sleepers.wakes, static_cast<int>(std::min<int64_t>(n, most)));
  }

  void join() {
    const auto finished = [&] { return report.unfinished.load(std::memory_order_acquire) == 0; };
    while (!spin(spin_time, finished)) {
      report.caller_sleeps.store(1);
      if (report.unfinished.load() != 0) futex_wait(report.caller_sleeps, 1);
      report.caller_sleeps.store(0);
    }
  }

  void bind(int thread) const {
    if (affinity.cpus.empty()) return;
    const size_t i = static_cast<size_t>(thread) % affinity.cpus.size();
    (void)set_thread_affinity(affinity.strict ? CpuSet{affinity.cpus[i]} : affinity.cpus);
  }

  void bind_caller() const {
    static thread_local uint64_t bound_to = 0;
    if (affinity.cpus.empty() || bound_to == id) return;
    bound_to = id;
    bind(0);
  }
};

ThreadPool::ThreadPool(int n_threads, Affinity affinity)
    : n_threads_(std::max(1, n_threads)), impl_(std::make_unique<Impl>()) {
  static std::atomic<uint64_t> pools{0};
  const size_t n_cpus = affinity.cpus.empty() ? cpu_budget().allowed.size() : affinity.cpus.size();
  if (static_cast<size_t>(n_threads_) > n_cpus) impl_->spin_time = kCrowdedSpinTime;
  impl_->affinity = std::move(affinity);
  impl_->id = ++pools;
  for (int i = 1; i < n_threads_; ++i) impl_->threads.emplace_back([this, i] { impl_->loop(i); });
}

ThreadPool::~ThreadPool() {
  impl_->sleepers.stop.store(true);
  impl_->wake(INT_MAX);
  for (auto& thread : impl_->threads) thread.join();
}

void ThreadPool::parallel_for(size_t n, size_t grain, FunctionRef<void(size_t, size_t, int)> body) {
  if (n == 0) return;
  grain = std::max<size_t>(1, grain);
  impl_->bind_caller();
  if (n_threads_ == 1 || n <= grain) {
    for (size_t begin = 0; begin < n; begin += grain) body(begin, begin + std::min(grain, n - begin), 0);
    return;
  }
  auto& job = impl_->job;
  job.body = &body;
  job.n = n;
  job.grain = grain;
  job.n_ranges = (n - 1) / grain + 1;
  const auto n_ranges = static_cast<int64_t>(job.n_ranges);
  impl_->report.unfinished.store(n_ranges, std::memory_order_relaxed);
  job.left.store(n_ranges);
  impl_->wake(n_ranges - 1);
  const int64_t mine = impl_->work(0);
  if (impl_->report.unfinished.fetch_sub(mine, std::memory_order_acq_rel) != mine) impl_->join();
}

int default_thread_count() { return cpu_budget().default_threads(); }

}  // namespace shoehorn
