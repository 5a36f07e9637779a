// A whole file in memory, read-only: mapped, or a copy.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "base/status.h"

namespace shoehorn {

/// How a file comes into memory.
enum class FileMode {
  kMap,   ///< shares the page cache: loaded as it is touched, and let go when memory is short
  kCopy,  ///< read into memory of the process's own, in huge pages where the system has them; stays until the end
};

/// The path of the file that is mapped at this address, nullptr when none is: for a handler of SIGBUS, which a mapped file raises when it became
/// shorter or its disk fails. Async-signal-safe; knows the first 256 files that are mapped at a time.
const char* mapped_path_at(const void* address);

/// Owns the memory; views into bytes() live as long as it does. Movable, not copyable. Thread-safe for reading.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  /// Fails with kNotFound / kIo (a directory, no permission) naming the path, a copy with kTooLarge and the numbers when it
  /// does not fit in memory. An empty file is an empty span.
  static Expected<MappedFile> open(const std::string& path, FileMode mode = FileMode::kMap);

  /// What `fill` makes, as if it were the file `path`: memory of this process that goes to neither swap nor core dumps. What fill fails with,
  /// then nothing of it is left; kTooLarge when memory does not suffice; kIo when the system has swap and does not let so much be locked.
  static Expected<MappedFile> made(const std::string& path, size_t size, const std::function<Status(std::span<std::byte>)>& fill);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Loads all of it and keeps it in memory (mlock). Fails with kIo, the limit and how to raise it; then nothing is locked.
  Status lock() const;

  /// Tells the kernel that these pages will be read soon: it fetches them while other work goes on.
  void expect(std::span<const std::byte> range) const;

  /// Tells the kernel that these pages will not be needed again: a stage that streams through a file larger than the
  /// memory calls this behind itself. Reading them again is correct, only slower. Does nothing to a copy.
  void release(std::span<const std::byte> range) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  FileMode mode_ = FileMode::kMap;
  std::string path_;
};

}  // namespace shoehorn
