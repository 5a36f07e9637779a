// A writer of SentencePiece models, to make those that no trainer would.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace shoehorn::tokenizer::test {

inline std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
inline std::string number(uint32_t field, uint64_t value) { return varint(field << 3) + varint(value); }
inline std::string bytes(uint32_t field, const std::string& value) {
  return varint(field << 3 | 2) + varint(value.size()) + value;
}
inline std::string piece(const std::string& text, float score, uint64_t type) {
  std::string raw(4, '\0');
  memcpy(raw.data(), &score, 4);
  return bytes(1, bytes(1, text) + varint(2 << 3 | 5) + raw + number(3, type));
}
inline std::string model(const std::string& pieces, uint64_t model_type = 2, const std::string& normalizer = "") {
  return pieces + bytes(2, number(3, model_type)) + bytes(3, normalizer);
}
inline std::string base_pieces() {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("▁a", -1, 1) + piece("▁", -2, 1) +
         piece("a", -3, 1);
}

}  // namespace shoehorn::tokenizer::test
