// What seals a model: a key, or a passphrase that a key is derived from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace shoehorn::seal {

inline constexpr size_t kKeyBytes = 32;

/// Cleared when it goes out of scope.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string bytes) : bytes_(std::move(bytes)) {}
  Secret(const Secret&) = default;
  Secret(Secret&&) noexcept = default;
  Secret& operator=(const Secret&) = default;
  Secret& operator=(Secret&&) noexcept = default;
  ~Secret();
  const unsigned char* data() const { return reinterpret_cast<const unsigned char*>(bytes_.data()); }
  unsigned char* data() { return reinterpret_cast<unsigned char*>(bytes_.data()); }
  size_t size() const { return bytes_.size(); }

 private:
  std::string bytes_;
};

struct Key {
  Secret secret;            ///< kKeyBytes, or the passphrase
  bool passphrase = false;  ///< a key comes of it by Argon2id and a salt, anew for every file
};

/// SOURCE: a file (kKeyBytes as they are, or as hexadecimal digits), "keyring:NAME" (a key of type "user" in the
/// kernel's keyring, as "keyctl padd user NAME @u < FILE" puts it there) or "prompt" (a passphrase from the terminal,
/// not shown; asked for twice when `confirm`). Fails naming the source.
Expected<Key> read_key(const std::string& source, bool confirm = false);

/// A new random key in a file that only its owner may read. Fails when the file is there.
Status make_key(const std::string& path);

/// A new file that only its owner may read. Fails when it is there.
Status write_secret_file(const std::string& path, std::string_view text);

/// Where sealed files that are opened by their path get their key from, for this process. Without one, opening them
/// fails and says how to give one.
void set_key(Key key);
/// nullptr: none was set.
const Key* key_in_use();

}  // namespace shoehorn::seal
