// A read-only view of a zip file whose entries are stored uncompressed, as torch.save writes them.
// Format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3 (zip64).
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace shoehorn::io {

class ZipArchive {
 public:
  /// True when the bytes begin as a zip file does.
  static bool is_zip(std::span<const std::byte> bytes);

  /// Checks the whole directory: every entry is stored, unencrypted, uniquely named, inside the file, and overlaps no
  /// other. `bytes` must outlive the archive; `path` is for messages. Checksums are not verified (torch can be told not
  /// to write them).
  static Expected<ZipArchive> open(std::span<const std::byte> bytes, const std::string& path);

  /// Names and data point into the bytes.
  const std::map<std::string_view, std::span<const std::byte>>& entries() const { return entries_; }

 private:
  std::map<std::string_view, std::span<const std::byte>> entries_;
};

}  // namespace shoehorn::io
