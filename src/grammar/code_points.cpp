#include "grammar/code_points.h"

#include <algorithm>

namespace shoehorn::grammar {
namespace {

constexpr CodePoints kSurrogates = {0xD800, 0xDFFF};

int utf8_size(uint32_t c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

std::array<uint8_t, 4> utf8(uint32_t c) {
  const int size = utf8_size(c);
  if (size == 1) return {static_cast<uint8_t>(c)};
  std::array<uint8_t, 4> out = {};
  for (int i = size - 1; i > 0; --i, c >>= 6) out[static_cast<size_t>(i)] = static_cast<uint8_t>(0x80 | (c & 0x3F));
  out[0] = static_cast<uint8_t>((0xF00 >> size) | c);
  return out;
}

}  // namespace

std::vector<CodePoints> normalized(std::vector<CodePoints> set) {
  std::vector<CodePoints> parts;
  for (const CodePoints& range : set) {
    if (range.first < kSurrogates.first) parts.push_back({range.first, std::min(range.last, kSurrogates.first - 1)});
    if (range.last > kSurrogates.last) parts.push_back({std::max(range.first, kSurrogates.last + 1), range.last});
  }
  std::erase_if(parts, [](const CodePoints& range) { return range.first > range.last; });
  std::sort(parts.begin(), parts.end(), [](const CodePoints& a, const CodePoints& b) { return a.first < b.first; });
  std::vector<CodePoints> out;
  for (const CodePoints& range : parts) {
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

std::vector<CodePoints> complement(const std::vector<CodePoints>& set) {
  std::vector<CodePoints> out;
  uint32_t next = 0;
  for (const CodePoints& range : set) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return normalized(std::move(out));
}

std::vector<ByteSequence> utf8_sequences(const std::vector<CodePoints>& set) {
  std::vector<ByteSequence> out;
  // Split until all characters of a piece have the same bytes but for a tail that runs through all its values.
  std::vector<CodePoints> pieces(set.rbegin(), set.rend());
  const auto split = [&](CodePoints range, uint32_t at) {
    pieces.push_back({at + 1, range.last});
    pieces.push_back({range.first, at});
  };
  while (!pieces.empty()) {
    const CodePoints range = pieces.back();
    pieces.pop_back();
    const int size = utf8_size(range.first);
    if (utf8_size(range.last) != size) {
      split(range, size == 1 ? 0x7F : size == 2 ? 0x7FF : 0xFFFF);
      continue;
    }
    bool whole = true;
    for (int i = 1; i < size && whole; ++i) {
      const uint32_t tail = (uint32_t{1} << (6 * i)) - 1;
      if ((range.first & ~tail) == (range.last & ~tail)) continue;
      whole = false;
      if ((range.first & tail) != 0) {
        split(range, range.first | tail);
      } else if ((range.last & tail) != tail) {
        split(range, (range.last & ~tail) - 1);
      } else {
        whole = true;
      }
    }
    if (whole) out.push_back({utf8(range.first), utf8(range.last), size});
  }
  return out;
}

std::vector<uint32_t> code_points(std::string_view text) {
  std::vector<uint32_t> out;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    uint32_t c = size == 1 ? lead : lead & (0x7Fu >> size);
    for (size_t i = 1; i < size && at + i < text.size(); ++i)
      c = c << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3F);
    out.push_back(c);
    at += size;
  }
  return out;
}

int hexadecimal_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_utf8(std::string& text, uint32_t code_point) {
  const auto bytes = utf8(code_point);
  text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(utf8_size(code_point)));
}

}  // namespace shoehorn::grammar
