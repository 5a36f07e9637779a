// Digests of contents: what the hub names them by, and what says that nobody changed them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace shoehorn {

/// A running digest of a file's bytes. The hub calls files in large-file storage by their SHA-256, all others by git's
/// object id: SHA-1 of "blob SIZE\0" and the contents.
class Digest {
 public:
  enum class Kind { kSha256, kGitBlob };

  /// `size`: of the whole file, part of git's id and of nothing else.
  explicit Digest(Kind kind = Kind::kSha256, uint64_t size = 0);
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;
  ~Digest();

  void add(std::span<const std::byte> bytes);
  /// In lower-case hexadecimal digits; ends the digest.
  std::string hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

/// The SHA-256 of bytes that are there as a whole.
std::string sha256_of(std::span<const std::byte> bytes);

/// True for `n_digits` lower-case hexadecimal digits.
bool is_hex(std::string_view text, size_t n_digits);

}  // namespace shoehorn
