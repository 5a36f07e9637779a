#include "base/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

namespace shoehorn {

struct Digest::Context {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> md{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

Digest::Digest(Kind kind, uint64_t size) : context_(std::make_unique<Context>()) {
  EVP_DigestInit_ex(context_->md.get(), kind == Kind::kSha256 ? EVP_sha256() : EVP_sha1(), nullptr);
  if (kind == Kind::kGitBlob) {
    const std::string header = fmt::format("blob {}", size);
    add(std::as_bytes(std::span(header.c_str(), header.size() + 1)));
  }
}

Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;
Digest::~Digest() = default;

void Digest::add(std::span<const std::byte> bytes) { EVP_DigestUpdate(context_->md.get(), bytes.data(), bytes.size()); }

std::string Digest::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> value{};
  unsigned int n = 0;
  EVP_DigestFinal_ex(context_->md.get(), value.data(), &n);
  std::string out;
  for (unsigned int i = 0; i < n; ++i) out += fmt::format("{:02x}", value[i]);
  return out;
}

std::string sha256_of(std::span<const std::byte> bytes) {
  Digest digest;
  digest.add(bytes);
  return digest.hex();
}

bool is_hex(std::string_view text, size_t n_digits) {
  return text.size() == n_digits &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace shoehorn
