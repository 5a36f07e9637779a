#include "seal/minisign.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "base/lines.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "seal/libsodium.h"

namespace shoehorn::seal {
namespace {

constexpr uint64_t kMaxFileBytes = 1 << 16;
constexpr size_t kPiece = size_t{16} << 20;
constexpr std::string_view kUntrusted = "untrusted comment: ", kTrusted = "trusted comment: ";

using KeyId = std::array<unsigned char, 8>;

struct PublicKey {
  char algorithm[2];  // "Ed"
  KeyId id;
  unsigned char key[crypto_sign_PUBLICKEYBYTES];
};
struct SecretKey {
  char algorithm[2];   // "Ed"
  char derivation[2];  // "Sc" where it is encrypted, else zeros
  char checksum[2];    // "B2"
  unsigned char salt[32], operations[8], memory[8];
  KeyId id;
  unsigned char key[crypto_sign_SECRETKEYBYTES];
  unsigned char check[32];  // BLAKE2b of algorithm, id and key
};
struct Signature {
  char algorithm[2];  // "ED": of a hash; "Ed" (of the file itself) is minisign's before 2015
  KeyId id;
  unsigned char signature[crypto_sign_BYTES];
};
static_assert(sizeof(PublicKey) == 42 && sizeof(SecretKey) == 158 && sizeof(Signature) == 74);

template <class T>
std::string to_base64(const T& value) {
  std::string out(sodium_base64_ENCODED_LEN(sizeof value, sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(&value), sizeof value,
                    sodium_base64_VARIANT_ORIGINAL);
  out.pop_back();
  return out;
}

template <class T>
bool from_base64(std::string_view text, T& value) {
  size_t n = 0;
  const char* end = nullptr;
  return sodium_base642bin(reinterpret_cast<unsigned char*>(&value), sizeof value, text.data(), text.size(), nullptr,
                           &n, &end, sodium_base64_VARIANT_ORIGINAL) == 0 &&
         n == sizeof value && end == text.data() + text.size();
}

/// minisign shows ids as numbers.
std::string name_of(const KeyId& id) {
  std::string out;
  for (size_t i = id.size(); i-- > 0;) out += fmt::format("{:02X}", id[i]);
  return out;
}

using Hash = std::array<unsigned char, 64>;

Expected<Hash> hash_of(const std::string& path, Progress& progress) {
  SHOEHORN_TRY(const auto file, MappedFile::open(path));
  const auto bytes = file.bytes();
  crypto_generichash_state state;
  Hash out;
  crypto_generichash_init(&state, nullptr, 0, out.size());
  progress.begin("hashing", bytes.size());
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(piece.data()), piece.size());
    file.release(piece);
    progress.advance(piece.size());
  }
  progress.end();
  crypto_generichash_final(&state, out.data(), out.size());
  return out;
}

/// What the second signature covers: the first one, and the comment.
std::string with_comment(const Signature& signature, const std::string& comment) {
  return std::string(reinterpret_cast<const char*>(signature.signature), sizeof signature.signature) + comment;
}

const unsigned char* raw(const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); }

void compute_check(const SecretKey& key, unsigned char* out) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, sizeof key.check);
  crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(key.algorithm), sizeof key.algorithm);
  crypto_generichash_update(&state, key.id.data(), key.id.size());
  crypto_generichash_update(&state, key.key, sizeof key.key);
  crypto_generichash_final(&state, out, sizeof key.check);
}

struct OwnKey {
  SecretKey value = {};
  ~OwnKey() { sodium_memzero(&value, sizeof value); }
};

Status read_secret_key(const std::string& path, SecretKey& key) {
  SHOEHORN_TRY(std::string text, read_file(path, kMaxFileBytes));
  const Secret whole(std::move(text));
  const auto lines = lines_of({reinterpret_cast<const char*>(whole.data()), whole.size()});
  if (lines.size() < 2 || !lines[0].starts_with(kUntrusted) || !from_base64(lines[1], key) ||
      std::memcmp(key.algorithm, "Ed", 2) != 0)
    return fail(ErrorCode::kInvalid, "{}: not a secret key of minisign or \"shoehorn sign --new-key\"", path);
  if (std::memcmp(key.derivation, "\0\0", 2) != 0) {
    return fail(ErrorCode::kUnsupported,
                "{}: has a passphrase; minisign -C -W -s {} takes it off, or minisign itself signs: either signature "
                "is verified here",
                path, path);
  }
  // minisign leaves the check of a key without passphrase empty; then the two halves of the key must agree.
  unsigned char check[sizeof key.check], open[crypto_sign_PUBLICKEYBYTES], again[crypto_sign_SECRETKEYBYTES];
  compute_check(key, check);
  crypto_sign_seed_keypair(open, again, key.key);
  const bool halves_agree = sodium_memcmp(again, key.key, sizeof again) == 0;
  sodium_memzero(again, sizeof again);
  if (!halves_agree ||
      (sodium_memcmp(check, key.check, sizeof check) != 0 && sodium_is_zero(key.check, sizeof key.check) == 0))
    return fail(ErrorCode::kInvalid, "{}: is damaged", path);
  return {};
}

Expected<PublicKey> read_public_key(const std::string& given) {
  PublicKey key;
  if (from_base64(given, key) && std::memcmp(key.algorithm, "Ed", 2) == 0) return key;
  SHOEHORN_TRY(const std::string text, read_file(given, kMaxFileBytes));
  const auto lines = lines_of(text);
  if (lines.size() < 2 || !from_base64(lines[1], key) || std::memcmp(key.algorithm, "Ed", 2) != 0)
    return fail(ErrorCode::kInvalid, "{}: not a public key of minisign or \"shoehorn sign --new-key\"", given);
  return key;
}

}  // namespace

Status make_signing_key(const std::string& path) {
  SHOEHORN_RETURN_IF_ERROR(start_sodium());
  std::error_code error;
  if (std::filesystem::exists(path + ".pub", error))
    return fail(ErrorCode::kIo, "{}.pub: is there already, and is not overwritten", path);
  OwnKey secret;
  PublicKey open = {};
  std::memcpy(secret.value.algorithm, "Ed", 2);
  std::memcpy(secret.value.checksum, "B2", 2);
  randombytes_buf(secret.value.id.data(), secret.value.id.size());
  crypto_sign_keypair(open.key, secret.value.key);
  compute_check(secret.value, secret.value.check);
  std::memcpy(open.algorithm, "Ed", 2);
  open.id = secret.value.id;
  std::string text = fmt::format("{}shoehorn secret key {}\n", kUntrusted, name_of(open.id));
  std::string encoded = to_base64(secret.value);
  text += encoded + "\n";
  const Status written = write_secret_file(path, text);
  sodium_memzero(encoded.data(), encoded.size());
  sodium_memzero(text.data(), text.size());
  if (!written) return written;
  return write_file(path + ".pub",
                    fmt::format("{}shoehorn public key {}\n{}\n", kUntrusted, name_of(open.id), to_base64(open)));
}

Status sign_file(const std::string& file, const std::string& key_path, const std::string& comment, Progress& progress) {
  SHOEHORN_RETURN_IF_ERROR(start_sodium());
  OwnKey key;
  SHOEHORN_RETURN_IF_ERROR(read_secret_key(key_path, key.value));
  const std::string said = !comment.empty() ? comment
                                            : fmt::format("timestamp:{}\tfile:{}\thashed", std::time(nullptr),
                                                          std::filesystem::path(file).filename().string());
  if (said.find_first_of("\r\n") != std::string::npos) return fail(ErrorCode::kInvalid, "a comment is one line");
  SHOEHORN_TRY(const Hash hash, hash_of(file, progress));
  Signature signature = {};
  std::memcpy(signature.algorithm, "ED", 2);
  signature.id = key.value.id;
  crypto_sign_detached(signature.signature, nullptr, hash.data(), hash.size(), key.value.key);
  const std::string both = with_comment(signature, said);
  std::array<unsigned char, crypto_sign_BYTES> of_both;
  crypto_sign_detached(of_both.data(), nullptr, raw(both), both.size(), key.value.key);
  return write_file(file + ".minisig",
                    fmt::format("{}signature of shoehorn's key {}\n{}\n{}{}\n{}\n", kUntrusted, name_of(signature.id),
                                to_base64(signature), kTrusted, said, to_base64(of_both)));
}

Expected<Signed> verify_file(const std::string& file, const std::string& public_key, const std::string& signature_path,
                             Progress& progress) {
  SHOEHORN_RETURN_IF_ERROR(start_sodium());
  SHOEHORN_TRY(const PublicKey key, read_public_key(public_key));
  const std::string path = signature_path.empty() ? file + ".minisig" : signature_path;
  SHOEHORN_TRY(const std::string text, read_file(path, kMaxFileBytes));
  const auto lines = lines_of(text);
  Signature signature;
  std::array<unsigned char, crypto_sign_BYTES> of_both;
  if (lines.size() < 4 || !from_base64(lines[1], signature) || !lines[2].starts_with(kTrusted) ||
      !from_base64(lines[3], of_both))
    return fail(ErrorCode::kInvalid, "{}: not a signature of minisign or \"shoehorn sign\"", path);
  if (std::memcmp(signature.algorithm, "ED", 2) != 0)
    return fail(ErrorCode::kUnsupported,
                "{}: a signature of the file itself, as minisign -l makes; signatures of its hash are supported", path);
  if (signature.id != key.id)
    return fail(ErrorCode::kInvalid, "{}: key {} signed it, not {}", path, name_of(signature.id), name_of(key.id));
  const std::string comment(lines[2].substr(kTrusted.size()));
  const std::string both = with_comment(signature, comment);
  if (crypto_sign_verify_detached(of_both.data(), raw(both), both.size(), key.key) != 0)
    return fail(ErrorCode::kInvalid, "{}: the signature or its comment was changed", path);
  SHOEHORN_TRY(const Hash hash, hash_of(file, progress));
  if (crypto_sign_verify_detached(signature.signature, hash.data(), hash.size(), key.key) != 0)
    return fail(ErrorCode::kInvalid, "{}: is not the file that was signed", file);
  return Signed{comment, name_of(signature.id)};
}

}  // namespace shoehorn::seal
