// Signatures of files, in the form of minisign (jedisct1.github.io/minisign): Ed25519 of a file's BLAKE2b-512, in
// FILE.minisig. Either program verifies what the other signed, with the same keys.
#pragma once

#include <array>
#include <string>

#include "base/progress.h"
#include "seal/key.h"

namespace shoehorn::seal {

/// A key pair: the secret one at `path`, the public one at `path`.pub, which names it in a signature by 8 random bytes.
/// The secret key is not encrypted with a passphrase (as minisign -G -W makes it); only its owner may read it. Fails
/// when either file is there.
Status make_signing_key(const std::string& path);

/// Signs `file` with the secret key at `key_path`, into `file`.minisig. `comment` is signed too ("" : the file's name
/// and the time). kUnsupported for a secret key that has a passphrase.
Status sign_file(const std::string& file, const std::string& key_path, const std::string& comment, Progress& progress);

/// What the signer said of the file.
struct Signed {
  std::string comment;
  std::string key_id;  ///< 16 hexadecimal digits, as minisign shows it
};

/// `public_key`: a file, or the key itself (56 characters of base64). Reads `file`.minisig, or the signature at
/// `signature_path`. kInvalid when the file or the comment is not what was signed, or when another key signed it.
Expected<Signed> verify_file(const std::string& file, const std::string& public_key, const std::string& signature_path,
                             Progress& progress);

}  // namespace shoehorn::seal
