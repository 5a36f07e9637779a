#include "io/zip_archive.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/checked.h"
#include "io/checkpoint_tensor.h"

namespace shoehorn::io {
namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50;
constexpr uint32_t kZip64End = 0x06064b50, kZip64Locator = 0x07064b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kZip64EndBytes = 56, kZip64LocatorBytes = 20;
constexpr uint64_t kMaxEntries = 1'000'000;

/// The caller has checked that the bytes are there.
template <class T>
T load(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

struct Directory {
  uint64_t offset, bytes, n_entries;
};

const char* method_name(uint16_t method) {
  switch (method) {
    case 8:
      return "deflate";
    case 9:
      return "deflate64";
    case 12:
      return "bzip2";
    case 14:
      return "lzma";
    case 93:
      return "zstd";
    default:
      return "unknown";
  }
}

Expected<Directory> find_directory(std::span<const std::byte> bytes, const std::string& path) {
  // The end record closes the file, but for a comment of at most 65535 bytes.
  std::optional<size_t> end;
  if (bytes.size() >= kEndBytes) {
    const size_t last = bytes.size() - kEndBytes;
    const size_t first = last > 0xffff ? last - 0xffff : 0;
    for (size_t at = last + 1; at-- > first;) {
      if (load<uint32_t>(bytes, at) == kEnd && at + kEndBytes + load<uint16_t>(bytes, at + 20) == bytes.size()) {
        end = at;
        break;
      }
    }
  }
  if (!end) return fail(ErrorCode::kInvalid, "{}: zip file without an end record (truncated?)", path);
  Directory directory{load<uint32_t>(bytes, *end + 16), load<uint32_t>(bytes, *end + 12),
                      load<uint16_t>(bytes, *end + 10)};
  uint64_t limit = *end;
  if (*end >= kZip64LocatorBytes && load<uint32_t>(bytes, *end - kZip64LocatorBytes) == kZip64Locator) {
    const uint64_t at = load<uint64_t>(bytes, *end - kZip64LocatorBytes + 8);
    if (!range_inside(at, kZip64EndBytes, *end - kZip64LocatorBytes) || load<uint32_t>(bytes, at) != kZip64End) {
      return fail(ErrorCode::kInvalid, "{}: the zip64 end record is not at byte {}", path, at);
    }
    directory = {load<uint64_t>(bytes, at + 48), load<uint64_t>(bytes, at + 40), load<uint64_t>(bytes, at + 32)};
    limit = at;
  }
  if (!range_inside(directory.offset, directory.bytes, limit)) {
    return fail(ErrorCode::kInvalid, "{}: the zip directory (offset {}, {} bytes) is outside the file", path,
                directory.offset, directory.bytes);
  }
  if (directory.n_entries > kMaxEntries || directory.n_entries > directory.bytes / kCentralBytes) {
    return fail(ErrorCode::kInvalid, "{}: {} zip entries do not fit in a directory of {} bytes (limit {})", path,
                directory.n_entries, directory.bytes, kMaxEntries);
  }
  return directory;
}

struct CentralEntry {
  std::string_view name;
  uint64_t local_offset, bytes;
};

/// Replaces 32-bit fields that read 0xffffffff by their values in the zip64 extra field.
bool apply_zip64(std::span<const std::byte> extra, uint64_t& size, uint64_t& compressed, uint64_t& offset) {
  constexpr uint64_t kElsewhere = 0xffffffff;
  if (size != kElsewhere && compressed != kElsewhere && offset != kElsewhere) return true;
  for (size_t at = 0; at + 4 <= extra.size();) {
    const auto id = load<uint16_t>(extra, at);
    const size_t length = load<uint16_t>(extra, at + 2);
    if (length > extra.size() - at - 4) return false;
    if (id == 1) {
      auto field = extra.subspan(at + 4, length);
      for (uint64_t* value : {&size, &compressed, &offset}) {
        if (*value != kElsewhere) continue;
        if (field.size() < 8) return false;
        *value = load<uint64_t>(field, 0);
        field = field.subspan(8);
      }
      return true;
    }
    at += 4 + length;
  }
  return false;
}

/// Reads the entry at the front of `directory` and moves it on.
Expected<CentralEntry> next_entry(std::span<const std::byte>& directory, const std::string& path) {
  if (directory.size() < kCentralBytes || load<uint32_t>(directory, 0) != kCentralHeader) {
    return fail(ErrorCode::kInvalid, "{}: the zip directory is damaged", path);
  }
  const size_t name_bytes = load<uint16_t>(directory, 28), extra_bytes = load<uint16_t>(directory, 30);
  const size_t entry_bytes = kCentralBytes + name_bytes + extra_bytes + load<uint16_t>(directory, 32);
  if (entry_bytes > directory.size()) return fail(ErrorCode::kInvalid, "{}: the zip directory is damaged", path);
  CentralEntry entry;
  entry.name = {reinterpret_cast<const char*>(directory.data()) + kCentralBytes, name_bytes};
  const auto flags = load<uint16_t>(directory, 8), method = load<uint16_t>(directory, 10);
  uint64_t compressed = load<uint32_t>(directory, 20);
  entry.bytes = load<uint32_t>(directory, 24);
  entry.local_offset = load<uint32_t>(directory, 42);
  const auto where = [&] { return path + ": zip entry " + printable(entry.name); };
  if ((flags & 1) != 0) return fail(ErrorCode::kUnsupported, "{} is encrypted", where());
  if (method != 0) {
    return fail(ErrorCode::kUnsupported, "{} is compressed (method {}, {}); torch.save stores its entries", where(),
                method, method_name(method));
  }
  if (!apply_zip64(directory.subspan(kCentralBytes + name_bytes, extra_bytes), entry.bytes, compressed,
                   entry.local_offset)) {
    return fail(ErrorCode::kInvalid, "{} has a damaged zip64 field", where());
  }
  if (compressed != entry.bytes) {
    return fail(ErrorCode::kInvalid, "{} is stored, yet {} bytes are given as {}", where(), entry.bytes, compressed);
  }
  directory = directory.subspan(entry_bytes);
  return entry;
}

}  // namespace

bool ZipArchive::is_zip(std::span<const std::byte> bytes) {
  if (bytes.size() < 4) return false;
  const auto signature = load<uint32_t>(bytes, 0);
  return signature == kLocalHeader || signature == kEnd;
}

Expected<ZipArchive> ZipArchive::open(std::span<const std::byte> bytes, const std::string& path) {
  SHOEHORN_TRY(const Directory directory, find_directory(bytes, path));
  ZipArchive archive;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // [begin, end) of each entry with its local header
  auto rest = bytes.subspan(directory.offset, directory.bytes);
  for (uint64_t i = 0; i < directory.n_entries; ++i) {
    SHOEHORN_TRY(const CentralEntry entry, next_entry(rest, path));
    const auto where = [&] { return path + ": zip entry " + printable(entry.name); };
    if (!range_inside(entry.local_offset, kLocalBytes, directory.offset)) {
      return fail(ErrorCode::kInvalid, "{}: header at byte {} is outside the file", where(), entry.local_offset);
    }
    if (load<uint32_t>(bytes, entry.local_offset) != kLocalHeader) {
      return fail(ErrorCode::kInvalid, "{}: no header at byte {}", where(), entry.local_offset);
    }
    // The sizes of name and extra field differ from those in the directory: torch pads data to 64 bytes there.
    const uint64_t begin = entry.local_offset + kLocalBytes + load<uint16_t>(bytes, entry.local_offset + 26) +
                           load<uint16_t>(bytes, entry.local_offset + 28);
    if (!range_inside(begin, entry.bytes, directory.offset)) {
      return fail(ErrorCode::kInvalid, "{}: {} bytes at {} reach past the entries' end at {}", where(), entry.bytes,
                  begin, directory.offset);
    }
    if (!archive.entries_.emplace(entry.name, bytes.subspan(begin, entry.bytes)).second) {
      return fail(ErrorCode::kInvalid, "{} is there twice", where());
    }
    ranges.emplace_back(entry.local_offset, begin + entry.bytes);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      return fail(ErrorCode::kInvalid, "{}: zip entries overlap at byte {}", path, ranges[i].first);
    }
  }
  return archive;
}

}  // namespace shoehorn::io
