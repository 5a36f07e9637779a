#include "seal/key.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/descriptor.h"
#include "base/output_file.h"
#include "seal/libsodium.h"

namespace shoehorn::seal {
namespace {

constexpr std::string_view kKeyring = "keyring:";
constexpr size_t kMaxPassphrase = 1024;

// The kernel's keyring (keyutils.h): these calls have no functions in libc.
constexpr long kKeyctlRead = 11;

std::optional<Key>& key_of_this_process() {
  static std::optional<Key> key;
  return key;
}

/// A key as a file or the keyring holds it.
Expected<Key> parse_key(std::string bytes, const std::string& source) {
  Secret given(std::move(bytes));
  if (given.size() == kKeyBytes) return Key{std::move(given), false};
  // Digits, and the end of the line behind them.
  Secret key(std::string(kKeyBytes, '\0'));
  size_t n = 0;
  const char* end = nullptr;
  const bool digits = sodium_hex2bin(key.data(), kKeyBytes, reinterpret_cast<const char*>(given.data()), given.size(),
                                     " \t\r\n", &n, &end) == 0 &&
                      n == kKeyBytes && end == reinterpret_cast<const char*>(given.data()) + given.size();
  if (!digits) {
    return fail(ErrorCode::kInvalid, "{}: not a key: {} bytes; a key is {} bytes, or {} hexadecimal digits", source,
                given.size(), kKeyBytes, 2 * kKeyBytes);
  }
  return Key{std::move(key), false};
}

Expected<Key> read_keyring(const std::string& name, const std::string& source) {
  const long id = syscall(SYS_request_key, "user", name.c_str(), nullptr, 0);
  std::string bytes(4096, '\0');
  const long n = id < 0 ? id : syscall(SYS_keyctl, kKeyctlRead, id, bytes.data(), bytes.size());
  if (n < 0)
    return fail(ErrorCode::kNotFound, "{}: {}; \"keyctl padd user {} @u < FILE\" puts a key there", source,
                std::strerror(errno), name);
  bytes.resize(std::min(bytes.size(), static_cast<size_t>(n)));
  return parse_key(std::move(bytes), source);
}

/// A line from the terminal that does not show it.
Expected<Secret> ask(const Descriptor& terminal, std::string_view question) {
  termios before = {};
  if (tcgetattr(terminal.value, &before) != 0) return fail(ErrorCode::kIo, "prompt: {}", std::strerror(errno));
  termios silent = before;
  silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  tcsetattr(terminal.value, TCSAFLUSH, &silent);
  const auto say = [&](std::string_view text) {
    return ::write(terminal.value, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  };
  bool ok = say(question);
  std::string line;
  line.reserve(kMaxPassphrase);  // so that no copy is left behind
  for (char c = 0; ok && line.size() < kMaxPassphrase;) {
    const ssize_t n = ::read(terminal.value, &c, 1);
    if (n < 0 && errno == EINTR) continue;
    ok = n == 1;
    if (!ok || c == '\n') break;
    line += c;
  }
  tcsetattr(terminal.value, TCSAFLUSH, &before);
  say("\n");
  if (!ok) return fail(ErrorCode::kIo, "prompt: nothing was entered");
  return Secret(std::move(line));
}

Expected<Key> read_passphrase(bool confirm) {
  const Descriptor terminal(::open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (terminal.value < 0)
    return fail(ErrorCode::kIo, "prompt: there is no terminal to ask at; give a key file or keyring:NAME");
  SHOEHORN_TRY(Secret first, ask(terminal, "Passphrase: "));
  if (first.size() == 0) return fail(ErrorCode::kInvalid, "prompt: the passphrase is empty");
  if (confirm) {
    SHOEHORN_TRY(const Secret second, ask(terminal, "The same again: "));
    if (first.size() != second.size() || sodium_memcmp(first.data(), second.data(), first.size()) != 0)
      return fail(ErrorCode::kInvalid, "prompt: these are two different passphrases");
  }
  return Key{std::move(first), true};
}

}  // namespace

// All that it holds room for: what was moved elsewhere from a short text is still in its place.
Secret::~Secret() { sodium_memzero(bytes_.data(), bytes_.capacity()); }

Expected<Key> read_key(const std::string& source, bool confirm) {
  if (source == "prompt") return read_passphrase(confirm);
  if (source.starts_with(kKeyring)) return read_keyring(source.substr(kKeyring.size()), source);
  SHOEHORN_TRY(std::string bytes, read_file(source, 4096));
  return parse_key(std::move(bytes), source);
}

Status make_key(const std::string& path) {
  SHOEHORN_RETURN_IF_ERROR(start_sodium());
  unsigned char key[kKeyBytes];
  randombytes_buf(key, sizeof key);
  char hex[2 * kKeyBytes + 1];
  sodium_bin2hex(hex, sizeof hex, key, sizeof key);
  const Status written = write_secret_file(path, std::string(hex) + "\n");
  sodium_memzero(key, sizeof key);
  sodium_memzero(hex, sizeof hex);
  return written;
}

Status write_secret_file(const std::string& path, std::string_view text) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.value < 0) {
    return fail(ErrorCode::kIo, "{}: {}", path,
                errno == EEXIST ? "is there already, and is not overwritten" : std::strerror(errno));
  }
  if (::write(file.value, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(file.value) != 0) {
    const int error = errno;
    ::unlink(path.c_str());
    return fail(ErrorCode::kIo, "{}: {}", path, std::strerror(error));
  }
  return {};
}

void set_key(Key key) { key_of_this_process() = std::move(key); }

const Key* key_in_use() {
  const auto& key = key_of_this_process();
  return key ? &*key : nullptr;
}

}  // namespace shoehorn::seal
