// Reading a binary file field by field, each checked against what is left of it.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/status.h"

namespace shoehorn::io {

/// Little-endian fields off a byte span, each checked against its end.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  template <class T>
  Expected<T> read(const char* what) {
    if (remaining() < sizeof(T)) return truncated(what, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  /// Bytes behind their number, 64 bits.
  Expected<std::string> read_string(const char* what, uint64_t max_bytes) {
    SHOEHORN_TRY(const auto length, read<uint64_t>(what));
    return read_text(what, length, max_bytes);
  }

  /// `length` bytes.
  Expected<std::string> read_text(const char* what, uint64_t length, uint64_t max_bytes) {
    if (length > max_bytes) {
      return fail(ErrorCode::kInvalid, "{}: length {} is over the limit of {} bytes", what, length, max_bytes);
    }
    if (length > remaining()) return truncated(what, length);
    std::string text(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return text;
  }

  template <class T>
  Expected<std::vector<T>> read_array(const char* what, uint64_t count) {
    const auto bytes = checked_mul(count, sizeof(T));
    if (!bytes || *bytes > remaining()) return truncated(what, bytes.value_or(UINT64_MAX));
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), bytes_.data() + position_, *bytes);
    position_ += *bytes;
    return values;
  }

 private:
  tl::unexpected<Error> truncated(const char* what, uint64_t need) const {
    return fail(ErrorCode::kInvalid, "truncated: {} at byte {} needs {} bytes, {} are left", what, position_, need,
                remaining());
  }

  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

}  // namespace shoehorn::io
