// A hash to tell contents apart; not against those who would forge one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace shoehorn {

/// FNV-1a, 64 bits (draft-eastlake-fnv), of the bytes that were added.
class Fnv1a {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) value_ = (value_ ^ std::to_integer<uint64_t>(byte)) * 0x100000001b3;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325;
};

}  // namespace shoehorn
