// Loading mapped files while the work on them has already begun.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

namespace shoehorn {

/// Asks the kernel to load ranges of file mappings, in their order, in a thread of its own: a disk is then busy all the time
/// and in long reads, not only while somebody waits for a page. The mappings must outlive the object, whose end stops the
/// thread. Harmless for what is loaded already (some 10 ms per GiB) and for memory that is not a file's.
class ReadAhead {
 public:
  ReadAhead() = default;
  /// Stops after `limit` bytes: what does not fit in memory would push out what was loaded first.
  ReadAhead(std::vector<std::span<const std::byte>> ranges, uint64_t limit);

  /// Waits until all is asked for.
  void wait();

 private:
  std::jthread thread_;
};

}  // namespace shoehorn
