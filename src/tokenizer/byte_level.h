// The byte-level alphabet of GPT-2: every byte as one printable character, so that a vocabulary is valid text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shoehorn::tokenizer {

/// Bytes -> their characters ("Ġ" for a space).
std::string byte_level_encode(std::string_view bytes);
/// The inverse; nothing when a character is not of the alphabet.
std::optional<std::string> byte_level_decode(std::string_view text);

}  // namespace shoehorn::tokenizer
