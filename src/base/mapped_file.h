// A read-only memory mapping of a whole file.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace shoehorn {

/// Owns the mapping; views into bytes() live as long as it does. Movable, not copyable. Thread-safe for reading.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  /// Fails with kNotFound / kIo (a directory, no permission) naming the path. An empty file maps to an empty span.
  static Expected<MappedFile> open(const std::string& path);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Tells the kernel that these pages will be read soon: it fetches them while other work goes on.
  void expect(std::span<const std::byte> range) const;

  /// Tells the kernel that these pages will not be needed again: a stage that streams through a file larger than the
  /// memory calls this behind itself. Reading them again is correct, only slower.
  void release(std::span<const std::byte> range) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

}  // namespace shoehorn
