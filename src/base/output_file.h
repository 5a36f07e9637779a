// An output file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace shoehorn {

/// Writes go to a file without a name in the same directory; commit() syncs it and puts it in the place of `path`. Until then
/// `path` is as it was before, and when the process is killed nothing is left. File systems that know no nameless files
/// get `path`.partial instead: removed on destruction and by remove_registered_files() (base/cleanup.h), overwritten by the
/// next run after a SIGKILL.
class OutputFile {
 public:
  OutputFile() = default;
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  /// `expected_bytes` (0 = unknown) is checked against the free space of the file system first.
  static Expected<OutputFile> create(const std::string& path, uint64_t expected_bytes = 0);

  Status write(std::span<const std::byte> bytes);
  /// Overwrites at an absolute position without moving the end; for headers that are known last.
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);
  uint64_t size() const { return size_; }
  /// A path under which this process can read what was written before it has its name.
  std::string readable_path() const;
  Status commit();

 private:
  void discard();
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string path_, temporary_;
  bool named_ = false;   // temporary_ exists in the directory
};

/// Whole-file convenience over OutputFile.
Status write_file(const std::string& path, std::string_view text);
/// Reads a whole text file of at most max_bytes.
Expected<std::string> read_file(const std::string& path, uint64_t max_bytes);

}  // namespace shoehorn
