#include "seal/sealed_file.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <vector>

#include "base/memory.h"
#include "base/output_file.h"
#include "seal/libsodium.h"

namespace shoehorn::seal {
namespace {

static_assert(kKeyBytes == crypto_secretstream_xchacha20poly1305_KEYBYTES);

constexpr char kMagic[8] = {'S', 'H', 'O', 'E', 'S', 'E', 'A', 'L'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kChunkBytes = 1 << 20, kMaxChunkBytes = 64 << 20;
constexpr size_t kTagBytes = crypto_secretstream_xchacha20poly1305_ABYTES;
// A header asks for work before anything is known of it: no more than some seconds of a small board's, and memory that
// it has.
constexpr uint64_t kOperations = 3, kMaxOperations = 16;
constexpr uint64_t kMemory = uint64_t{64} << 20, kMaxMemory = uint64_t{1} << 30;

constexpr size_t kCheckBytes = 32;

struct Header {
  char magic[8];
  uint32_t version, passphrase;
  uint64_t operations, memory;
  unsigned char salt[crypto_pwhash_SALTBYTES];
  uint64_t plain_bytes;
  uint32_t chunk_bytes, reserved;
  unsigned char stream[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
  unsigned char check[kCheckBytes];
};
static_assert(sizeof(Header) == 120 && offsetof(Header, salt) == 32 && offsetof(Header, stream) == 64 &&
              offsetof(Header, check) == 88);

using State = crypto_secretstream_xchacha20poly1305_state;

/// The stream's state is as secret as the key.
struct Stream {
  State state = {};
  ~Stream() { sodium_memzero(&state, sizeof state); }
};

const unsigned char* raw(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

/// The key of one file.
Expected<Secret> key_of(const Header& header, const Key& key) {
  if (!key.passphrase) return key.secret;
  Secret derived(std::string(kKeyBytes, '\0'));
  if (crypto_pwhash(derived.data(), kKeyBytes, reinterpret_cast<const char*>(key.secret.data()), key.secret.size(),
                    header.salt, header.operations, header.memory, crypto_pwhash_ALG_ARGON2ID13) != 0) {
    return fail(ErrorCode::kTooLarge, "deriving the key takes {} of memory, which could not be had",
                format_bytes(header.memory));
  }
  return derived;
}

void compute_check(const Header& header, const Secret& key, unsigned char* out) {
  crypto_generichash(out, kCheckBytes, reinterpret_cast<const unsigned char*>(&header), offsetof(Header, check),
                     key.data(), kKeyBytes);
}

uint64_t chunk_count(const Header& header) {
  return std::max<uint64_t>(1, (header.plain_bytes + header.chunk_bytes - 1) / header.chunk_bytes);
}

/// The header of a sealed file, checked as far as it can be without a key.
Expected<Header> read_header(std::span<const std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof header)
    return fail(ErrorCode::kInvalid, "{} bytes, too short for a sealed file", bytes.size());
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return fail(ErrorCode::kInvalid, "not a sealed file");
  if (header.version != kVersion)
    return fail(ErrorCode::kUnsupported, "sealed in version {}, {} is supported", header.version, kVersion);
  const bool argon = header.passphrase == 1;
  if (header.passphrase > 1 || header.reserved != 0 || header.chunk_bytes == 0 || header.chunk_bytes > kMaxChunkBytes ||
      (argon && (header.operations < 1 || header.operations > kMaxOperations ||
                 header.memory < crypto_pwhash_MEMLIMIT_MIN || header.memory > kMaxMemory))) {
    return fail(ErrorCode::kInvalid, "its header holds values that none of ours has");
  }
  // Both are far below 2^63: the file is that large.
  if (header.plain_bytes > bytes.size() ||
      bytes.size() != sizeof header + header.plain_bytes + chunk_count(header) * kTagBytes) {
    return fail(ErrorCode::kInvalid, "{} bytes, sealed were {}: it was cut, or something was added to it", bytes.size(),
                header.plain_bytes);
  }
  return header;
}

/// Calls chunk(plain) for all chunks in order, each after it was authenticated. Plain bytes go to `into`, which is as
/// large as all of them, or, when it is empty, to memory that is used again.
Status unseal(const MappedFile& sealed, const Key& key, std::span<std::byte> into,
              const std::function<Status(std::span<const std::byte>)>& chunk) {
  SHOEHORN_RETURN_IF_ERROR(start_sodium());
  const auto bytes = sealed.bytes();
  SHOEHORN_TRY(const Header header, read_header(bytes));
  if (header.passphrase == 1 && !key.passphrase)
    return fail(ErrorCode::kInvalid, "was sealed with a passphrase, not with a key; --seal-key prompt asks for it");
  if (header.passphrase == 0 && key.passphrase)
    return fail(ErrorCode::kInvalid, "was sealed with a key, not with a passphrase");
  SHOEHORN_TRY(const Secret secret, key_of(header, key));
  unsigned char check[kCheckBytes];
  compute_check(header, secret, check);
  if (sodium_memcmp(check, header.check, sizeof check) != 0)
    return fail(ErrorCode::kInvalid, "was sealed with another key, or its header was changed");
  Stream stream;
  if (crypto_secretstream_xchacha20poly1305_init_pull(&stream.state, header.stream, secret.data()) != 0)
    return fail(ErrorCode::kInvalid, "its header was changed");
  const uint64_t n = chunk_count(header);
  Secret buffer(std::string(into.empty() ? header.chunk_bytes : 0, '\0'));
  size_t at = sizeof header;
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t plain = std::min<uint64_t>(header.chunk_bytes, header.plain_bytes - i * header.chunk_bytes);
    const auto cipher = bytes.subspan(at, plain + kTagBytes);
    auto* const out =
        into.empty() ? buffer.data() : reinterpret_cast<unsigned char*>(into.data()) + i * header.chunk_bytes;
    unsigned char tag = 0;
    const bool good =
        crypto_secretstream_xchacha20poly1305_pull(&stream.state, out, nullptr, &tag, raw(cipher), cipher.size(),
                                                   reinterpret_cast<const unsigned char*>(&header), sizeof header) == 0;
    if (!good || (tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL) != (i + 1 == n)) {
      return fail(ErrorCode::kInvalid, "was changed after it was sealed: chunk {} of {} is not what it was", i + 1, n);
    }
    const Status taken = chunk(std::as_bytes(std::span(out, plain)));
    sealed.release(cipher);
    if (!taken) return taken;
    at += cipher.size();
  }
  return {};
}

Status cancelled(Progress& progress) {
  if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
  return {};
}

}  // namespace

bool is_sealed(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof kMagic && std::memcmp(bytes.data(), kMagic, sizeof kMagic) == 0;
}

Status seal_file(const std::string& from, const std::string& to, const Key& key, Progress& progress) {
  SHOEHORN_RETURN_IF_ERROR(start_sodium());
  SHOEHORN_TRY(const MappedFile plain, MappedFile::open(from));
  const auto bytes = plain.bytes();
  if (is_sealed(bytes)) return fail(ErrorCode::kInvalid, "{}: is sealed already", from);
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.plain_bytes = bytes.size();
  header.chunk_bytes = kChunkBytes;
  if (key.passphrase) {
    header.passphrase = 1;
    header.operations = kOperations;
    header.memory = kMemory;
    randombytes_buf(header.salt, sizeof header.salt);
  }
  SHOEHORN_TRY(const Secret secret, key_of(header, key));
  Stream stream;
  crypto_secretstream_xchacha20poly1305_init_push(&stream.state, header.stream, secret.data());
  compute_check(header, secret, header.check);

  const uint64_t n = chunk_count(header);
  SHOEHORN_TRY(OutputFile out, OutputFile::create(to, sizeof header + bytes.size() + n * kTagBytes));
  SHOEHORN_RETURN_IF_ERROR(out.write(std::as_bytes(std::span(&header, 1))));
  std::vector<std::byte> cipher(kChunkBytes + kTagBytes);
  progress.begin("sealing", n);
  for (uint64_t i = 0; i < n; ++i) {
    SHOEHORN_RETURN_IF_ERROR(cancelled(progress));
    const auto piece = bytes.subspan(i * kChunkBytes, std::min<uint64_t>(kChunkBytes, bytes.size() - i * kChunkBytes));
    crypto_secretstream_xchacha20poly1305_push(&stream.state, reinterpret_cast<unsigned char*>(cipher.data()), nullptr,
                                               raw(piece), piece.size(),
                                               reinterpret_cast<const unsigned char*>(&header), sizeof header,
                                               i + 1 == n ? crypto_secretstream_xchacha20poly1305_TAG_FINAL
                                                          : crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
    SHOEHORN_RETURN_IF_ERROR(out.write(std::span<const std::byte>(cipher).first(piece.size() + kTagBytes)));
    plain.release(piece);
    progress.advance(1);
  }
  progress.end();
  return out.commit();
}

Status unseal_file(const std::string& from, const std::string& to, const Key& key, Progress& progress) {
  SHOEHORN_TRY(const MappedFile sealed, MappedFile::open(from));
  if (!is_sealed(sealed.bytes())) return fail(ErrorCode::kInvalid, "{}: not a sealed file", from);
  SHOEHORN_TRY(OutputFile out, OutputFile::create(to, sealed.bytes().size()));
  progress.begin("unsealing", sealed.bytes().size());
  const Status done = unseal(sealed, key, {}, [&](std::span<const std::byte> piece) {
    progress.advance(piece.size());
    if (const Status stopped = cancelled(progress); !stopped) return stopped;
    return out.write(piece);
  });
  if (!done) return annotate(done.error(), from);
  progress.end();
  return out.commit();
}

Expected<MappedFile> open_sealed(const MappedFile& sealed, const Key& key) {
  auto opened = [&]() -> Expected<MappedFile> {
    SHOEHORN_TRY(const Header header, read_header(sealed.bytes()));
    return MappedFile::made(sealed.path(), header.plain_bytes, [&](std::span<std::byte> into) {
      return unseal(sealed, key, into, [](std::span<const std::byte>) { return Status(); });
    });
  }();
  if (!opened) return annotate_once(opened.error(), sealed.path());
  return opened;
}

Expected<MappedFile> open_file(const std::string& path, FileMode mode) {
  SHOEHORN_TRY(MappedFile file, MappedFile::open(path));
  if (is_sealed(file.bytes())) {
    const Key* key = key_in_use();
    if (key == nullptr) {
      return fail(
          ErrorCode::kInvalid,
          "{}: is sealed; --seal-key FILE, keyring:NAME or prompt opens it (or SHOEHORN_SEAL_KEY in the environment)",
          path);
    }
    return open_sealed(file, *key);
  }
  if (mode == FileMode::kMap) return file;
  return MappedFile::open(path, mode);
}

}  // namespace shoehorn::seal
