// A fixed set of threads that share out index ranges.
#pragma once

#include <cstddef>
#include <memory>

#include "base/cpu_set.h"
#include "base/function_ref.h"

namespace shoehorn {

/// The CPUs that a pool's threads stay on.
struct Affinity {
  CpuSet cpus = {};     ///< empty: wherever the system puts them
  bool strict = false;  ///< thread i on the CPU i % cpus.size() of these alone, else all threads on any of these
};

/// The calling thread takes part as thread 0, so ThreadPool(1) starts none. parallel_for blocks until all is done and is
/// not reentrant; one caller at a time. Idle threads spin for some microseconds, then they sleep. With an affinity, a thread
/// that calls parallel_for is bound as thread 0 and stays so; CPUs that the system refuses are ignored (plan_threads checks
/// them).
class ThreadPool {
 public:
  explicit ThreadPool(int n_threads, Affinity affinity = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return n_threads_; }

  /// Calls body(begin, end, thread) over disjoint ranges covering [0, n), each `grain` long but the last; ranges are handed
  /// out dynamically. body must not throw.
  void parallel_for(size_t n, size_t grain, FunctionRef<void(size_t begin, size_t end, int thread)> body);

 private:
  struct Impl;
  int n_threads_;
  std::unique_ptr<Impl> impl_;
};

/// The number of threads to use when the user names none, cpu_budget().default_threads().
int default_thread_count();

}  // namespace shoehorn
