// A fixed set of threads that share out index ranges.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace shoehorn {

/// The calling thread takes part as thread 0, so ThreadPool(1) starts none. parallel_for blocks until all is done and is
/// not reentrant; one caller at a time.
class ThreadPool {
 public:
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return n_threads_; }

  /// Calls body(begin, end, thread) over disjoint ranges covering [0, n), each at most `grain` long except that ranges
  /// are never split below `grain`; ranges are handed out dynamically. body must not throw.
  void parallel_for(size_t n, size_t grain, const std::function<void(size_t begin, size_t end, int thread)>& body);

 private:
  struct Impl;
  int n_threads_;
  std::unique_ptr<Impl> impl_;
};

/// The number of threads to use when the user names none: CPUs in the affinity mask, not more than the cgroup CPU quota.
int default_thread_count();

}  // namespace shoehorn
