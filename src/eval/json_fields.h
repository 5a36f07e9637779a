// Fields of one line of a data file, or an error that names the field.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace shoehorn::eval {

/// j[key] as a string.
Expected<std::string> text_field(const Json& j, const char* key);
/// j[key] as a list of at least `min` strings.
Expected<std::vector<std::string>> texts_field(const Json& j, const char* key, size_t min);
/// j[key], an integer or a text that is one, in [0, n).
Expected<size_t> index_field(const Json& j, const char* key, size_t n);
/// An integer in [0, n) from text; `key` is for the message.
Expected<size_t> parse_index(std::string_view text, const char* key, size_t n);
/// j["id"] as text, a number written out, or `fallback`.
std::string id_field(const Json& j, const std::string& fallback);

/// The lines of a text file without their ends, "\n" or "\r\n"; the empty ones at the end of the file are left out.
Expected<std::vector<std::string>> read_lines(const std::string& path, uint64_t max_bytes);

/// Without white space at both ends.
std::string strip(std::string_view text);

}  // namespace shoehorn::eval
