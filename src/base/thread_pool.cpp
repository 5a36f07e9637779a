#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace shoehorn {
namespace {

// Long enough to bridge the gap between two matrix products of one token, short enough not to burn a battery.
constexpr int kSpins = 20000;

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

struct ThreadPool::Impl {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> generation{0};
  // A job is open while thread 0 works on it; `active` counts the workers inside. A worker counts itself in before it looks
  // whether the job is open and thread 0 closes it before it looks at the count, both sequentially consistent: so thread 0
  // waits for every worker that may touch the job and for none that the system has not scheduled yet.
  std::atomic<bool> open{false};
  std::atomic<int> active{0};
  std::atomic<bool> stop{false};

  // The current job. Written before it is opened, read after it was seen open.
  const std::function<void(size_t, size_t, int)>* body = nullptr;
  size_t n = 0, grain = 1;
  std::atomic<size_t> next{0};

  void work(int thread) {
    for (;;) {
      const size_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= n) return;
      (*body)(begin, std::min(n, begin + grain), thread);
    }
  }

  void loop(int thread) {
    uint64_t seen = 0;
    for (;;) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen) {
        if (stop.load(std::memory_order_relaxed)) return;
        if (++spins < kSpins) {
          cpu_relax();
          continue;
        }
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load() != seen || stop.load(); });
      }
      seen = generation.load(std::memory_order_acquire);
      active.fetch_add(1);
      if (open.load()) work(thread);
      active.fetch_sub(1);
    }
  }
};

ThreadPool::ThreadPool(int n_threads) : n_threads_(std::max(1, n_threads)), impl_(std::make_unique<Impl>()) {
  for (int i = 1; i < n_threads_; ++i) impl_->threads.emplace_back([this, i] { impl_->loop(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stop.store(true);
  }
  impl_->wake.notify_all();
  for (auto& thread : impl_->threads) thread.join();
}

void ThreadPool::parallel_for(size_t n, size_t grain, const std::function<void(size_t, size_t, int)>& body) {
  if (n == 0) return;
  grain = std::max<size_t>(1, grain);
  if (n_threads_ == 1 || n <= grain) {
    for (size_t begin = 0; begin < n; begin += grain) body(begin, std::min(n, begin + grain), 0);
    return;
  }
  impl_->body = &body;
  impl_->n = n;
  impl_->grain = grain;
  impl_->next.store(0, std::memory_order_relaxed);
  impl_->open.store(true);
  {
    std::lock_guard lock(impl_->mutex);
    impl_->generation.fetch_add(1, std::memory_order_release);
  }
  impl_->wake.notify_all();
  impl_->work(0);
  impl_->open.store(false);
  for (int spins = 0; impl_->active.load() != 0;) {
    if (++spins < kSpins) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
}

namespace {

/// CPUs that the cgroup of this process may use, from cgroup v2 cpu.max or v1 cfs quota; 0 when there is no limit.
double cgroup_cpus() {
  std::ifstream membership("/proc/self/cgroup");
  std::string line;
  while (std::getline(membership, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) {
      for (const std::string& file : {"/sys/fs/cgroup" + path + "/cpu.max", std::string("/sys/fs/cgroup/cpu.max")}) {
        std::ifstream in(file);
        std::string quota;
        double period = 0;
        if (in >> quota >> period && quota != "max" && period > 0) return std::atof(quota.c_str()) / period;
      }
    } else if (controllers.find("cpu") != std::string::npos && controllers.find("cpuset") == std::string::npos) {
      const std::string root = "/sys/fs/cgroup/" + controllers;
      for (const std::string& directory : {root + path, root}) {
        std::ifstream quota_file(directory + "/cpu.cfs_quota_us"), period_file(directory + "/cpu.cfs_period_us");
        double quota = 0, period = 0;
        if (quota_file >> quota && period_file >> period && quota > 0 && period > 0) return quota / period;
      }
    }
  }
  return 0;
}

}  // namespace

int default_thread_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  if (const double quota = cgroup_cpus(); quota > 0) n = std::min(n, static_cast<int>(std::ceil(quota)));
  return std::max(1, n);
}

}  // namespace shoehorn
