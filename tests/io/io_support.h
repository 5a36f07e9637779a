// Helpers of the io tests: failures that must name their reason, bytes in allocations of exactly their size, damage.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "support/support.h"

namespace shoehorn::test {

/// A copy in an allocation of its own, so that AddressSanitizer sees a read past its end.
class ExactBytes {
 public:
  explicit ExactBytes(std::string_view text) : data_(new std::byte[text.size()]), size_(text.size()) {
    if (size_ > 0) std::memcpy(data_.get(), text.data(), size_);
  }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> data_;
  size_t size_;
};

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
std::string raw_array(std::initializer_list<T> values) {
  std::string out;
  for (const T value : values) out += raw(value);
  return out;
}

/// A file in memory, for tests that open thousands of them.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(memfd_create("test", MFD_CLOEXEC)) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t n = ::write(fd_, bytes.data() + at, bytes.size() - at);
      if (n <= 0) std::abort();
      at += static_cast<size_t>(n);
    }
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

/// 1 to 4 random bits of `bytes` flipped.
inline std::string flip_bits(std::string bytes, std::mt19937& rng) {
  const auto n = 1 + rng() % 4;
  for (unsigned i = 0; i < n; ++i) {
    char& byte = bytes[rng() % bytes.size()];
    byte = static_cast<char>(byte ^ (1 << (rng() % 8)));
  }
  return bytes;
}

template <class T>
::testing::AssertionResult fails_with(const Expected<T>& result, ErrorCode code, std::string_view part) {
  if (result.has_value()) return ::testing::AssertionFailure() << "succeeded; expected an error with \"" << part << '"';
  if (result.error().code != code || result.error().message.find(part) == std::string::npos) {
    return ::testing::AssertionFailure() << "error " << static_cast<int>(result.error().code) << ": "
                                         << result.error().message << "\n  expected \"" << part << '"';
  }
  return ::testing::AssertionSuccess();
}

}  // namespace shoehorn::test

/// The expression fails with this ErrorCode and a message that contains `part`.
#define EXPECT_FAILS(expr, code, part) \
  EXPECT_TRUE(::shoehorn::test::fails_with((expr), ::shoehorn::ErrorCode::code, part))
