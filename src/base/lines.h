// The lines of a text.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

namespace shoehorn {

/// Views into `text`, without the ends of lines ("\n" or "\r\n"); the last line may lack its end.
inline std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    out.push_back(line);
    at = end + 1;
  }
  return out;
}

}  // namespace shoehorn
