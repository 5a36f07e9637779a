#include "base/read_ahead.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace shoehorn {
namespace {

// The kernel cuts a request down to the readahead window of the device, 128 KiB unless somebody raised it.
constexpr size_t kRequestBytes = size_t{128} << 10;

void request(const std::stop_token& stop, const std::vector<std::span<const std::byte>>& ranges, uint64_t limit) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (const auto& range : ranges) {
    const auto begin = reinterpret_cast<uintptr_t>(range.data()) / page * page;
    const auto end = reinterpret_cast<uintptr_t>(range.data()) + range.size();
    for (uintptr_t at = begin; at < end; at += kRequestBytes) {
      const size_t bytes = std::min<size_t>(kRequestBytes, end - at);
      if (stop.stop_requested() || bytes > limit) return;
      limit -= bytes;
      madvise(reinterpret_cast<void*>(at), bytes, MADV_WILLNEED);
    }
  }
}

}  // namespace

ReadAhead::ReadAhead(std::vector<std::span<const std::byte>> ranges, uint64_t limit)
    : thread_([ranges = std::move(ranges), limit](const std::stop_token& stop) { request(stop, ranges, limit); }) {}

void ReadAhead::wait() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace shoehorn
