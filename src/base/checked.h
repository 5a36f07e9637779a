// Arithmetic on sizes that come from outside.
#pragma once

#include <cstdint>
#include <optional>

namespace shoehorn {

/// a * b, or nothing when it wraps.
inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

/// a + b, or nothing when it wraps.
inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

/// True when [offset, offset + size) lies inside a buffer of `total` bytes; never wraps.
inline bool range_inside(uint64_t offset, uint64_t size, uint64_t total) {
  return offset <= total && size <= total - offset;
}

/// x rounded up to a multiple of `multiple` (> 0); the caller has made sure that it does not wrap.
constexpr uint64_t round_up(uint64_t x, uint64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

}  // namespace shoehorn
