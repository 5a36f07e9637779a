// Sealed files: encrypted and authenticated in chunks (libsodium's secretstream, XChaCha20-Poly1305), so that they are
// opened while they are read. A header, then chunks of chunk_bytes + 17 bytes, the last one shorter and marked as the
// last:
//
//   0  "SHOESEAL"          8
//   8  version             4    1
//  12  passphrase          4    0: the key itself, 1: Argon2id of a passphrase
//  16  operations, memory  8+8  of Argon2id, 0 for a key
//  32  salt                16   of Argon2id, 0 for a key
//  48  plain bytes         8
//  56  chunk bytes         4, and 4 of 0
//  64  stream header       24
//  88  check               32   BLAKE2b of all before under the key: tells a wrong key from a damaged file
//
// Numbers are little-endian. The header is authenticated with every chunk.
#pragma once

#include <span>
#include <string>

#include "base/mapped_file.h"
#include "base/progress.h"
#include "seal/key.h"

namespace shoehorn::seal {

/// Does it begin like a sealed file?
bool is_sealed(std::span<const std::byte> bytes);

/// Seals a file. Memory: two chunks. `to` appears whole or not at all.
Status seal_file(const std::string& from, const std::string& to, const Key& key, Progress& progress);

/// The way back: writes the plain file, which appears when all of it is known to be what was sealed.
Status unseal_file(const std::string& from, const std::string& to, const Key& key, Progress& progress);

/// A file as it was before it was sealed, in memory of this process that is kept out of swap and core dumps. A wrong
/// key, a file that was cut or changed anywhere: kInvalid, before a byte of it is given out. kTooLarge when it does not
/// fit in memory, kIo when the system has swap and does not allow so much memory to be kept out of it.
Expected<MappedFile> open_sealed(const MappedFile& sealed, const Key& key);

/// A file that may be sealed: then it is opened with the key of this process (set_key), else as MappedFile::open does.
Expected<MappedFile> open_file(const std::string& path, FileMode mode = FileMode::kMap);

}  // namespace shoehorn::seal
