#include "eval/machine.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

#include "base/memory.h"
#include "base/thread_pool.h"

namespace shoehorn::eval {
namespace {

constexpr size_t kChunkBytes = size_t{4} << 20;           // a thread's share at a time
constexpr uint64_t kSmallestBuffer = uint64_t{16} << 20;  // less says nothing about memory
constexpr uint64_t kDefaultBuffer = uint64_t{256} << 20;
constexpr int kPasses = 8;

using Lanes [[gnu::vector_size(64), gnu::may_alias]] = uint64_t;
constexpr size_t kLine = sizeof(Lanes);

/// The xor of a chunk. One stream of addresses does not keep memory busy, because the hardware's prefetchers stop at
/// the end of a page: four are read side by side, each with its own prefetch.
uint64_t read_chunk(const std::byte* chunk) {
  constexpr size_t kStreams = 4, kStreamBytes = kChunkBytes / kStreams, kAhead = 1024;
  Lanes even{}, odd{};
  for (size_t i = 0; i < kStreamBytes; i += 2 * kLine) {
    for (size_t stream = 0; stream < kStreams; ++stream) {
      const std::byte* at = chunk + stream * kStreamBytes + i;
      __builtin_prefetch(at + kAhead);
      __builtin_prefetch(at + kAhead + kLine);
      even ^= *reinterpret_cast<const Lanes*>(at);
      odd ^= *reinterpret_cast<const Lanes*>(at + kLine);
    }
  }
  even ^= odd;
  uint64_t folded = 0;
  for (size_t i = 0; i < kLine / sizeof(uint64_t); ++i) folded ^= even[i];
  return folded;
}

}  // namespace

uint64_t last_level_cache_bytes() {
  uint64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream in("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size");
    uint64_t kib = 0;  // "266240K"
    if (in >> kib) largest = std::max(largest, kib * 1024);
  }
  return largest;
}

Expected<double> measure_read_bandwidth(int n_threads) {
  const uint64_t wanted = std::max(kDefaultBuffer, 4 * last_level_cache_bytes()), limit = available_memory() / 4;
  const size_t n_chunks = static_cast<size_t>(std::min(wanted, limit) / kChunkBytes), bytes = n_chunks * kChunkBytes;
  const auto refuse = [&] {
    return fail(ErrorCode::kTooLarge,
                "measuring the read bandwidth needs a buffer of {}, a quarter of the available memory is {}",
                format_bytes(kSmallestBuffer), format_bytes(limit));
  };
  if (bytes < kSmallestBuffer) return refuse();
  const std::unique_ptr<std::byte, decltype(&std::free)> buffer(
      static_cast<std::byte*>(std::aligned_alloc(kChunkBytes, bytes)), &std::free);
  if (!buffer) return refuse();
#ifdef MADV_HUGEPAGE
  madvise(buffer.get(), bytes, MADV_HUGEPAGE);  // a wish: page walks are no part of the memory's speed
#endif
  ThreadPool pool(n_threads);
  // Pages that were never written are all one page of zeros.
  pool.parallel_for(n_chunks, 1, [&](size_t begin, size_t end, int) {
    std::memset(buffer.get() + begin * kChunkBytes, 1, (end - begin) * kChunkBytes);
  });
  std::atomic<uint64_t> sink{0};  // keeps the reads from being dropped
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(n_chunks, 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i)
        sink.fetch_xor(read_chunk(buffer.get() + i * kChunkBytes), std::memory_order_relaxed);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(bytes) / seconds);
  }
  return best;
}

double measure_multiply_peak(const kernels::KernelTable& table, int n_threads) {
  constexpr size_t kShares = 64;
  constexpr uint64_t kRounds = 20'000;
  ThreadPool pool(n_threads);
  double best = 0;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds_since = [](auto from) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count(); };
  while (seconds_since(start) < 0.3) {
    std::atomic<uint64_t> macs{0};
    const auto pass = std::chrono::steady_clock::now();
    pool.parallel_for(kShares, 1, [&](size_t begin, size_t end, int) {
      for (size_t i = begin; i < end; ++i) macs.fetch_add(table.spin(kRounds), std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(macs.load()) / seconds_since(pass));
  }
  return best;
}

Expected<Ceilings> measure_ceilings(const kernels::KernelTable& table, int n_threads) {
  Ceilings out;
  SHOEHORN_TRY(out.read_bytes, measure_read_bandwidth(n_threads));
  out.macs = measure_multiply_peak(table, n_threads);
  return out;
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos && (line.starts_with("model name") || line.starts_with("Model")))
      return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace shoehorn::eval
