// Finite fields of prime power order, for Paley's constructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace shoehorn::hadamard {

/// q = p^degree
struct PrimePower {
  uint32_t p = 0, degree = 0;
};

/// Nothing when q is not a power of a prime.
std::optional<PrimePower> prime_power(uint32_t q);

/// GF(q). Elements are 0 ... q - 1: the digits to the base p are the coefficients of a polynomial over GF(p), lowest
/// first, and products are taken modulo an irreducible polynomial (the first in the order of such numbers).
class FiniteField {
 public:
  /// q is a prime power, at most 2^16.
  explicit FiniteField(PrimePower order);

  uint32_t order() const { return q_; }
  uint32_t subtract(uint32_t a, uint32_t b) const;
  uint32_t multiply(uint32_t a, uint32_t b) const;
  /// The quadratic character: 0 of 0, 1 of squares, -1 of others. q is odd.
  int character(uint32_t a) const { return character_[a]; }

 private:
  std::vector<uint32_t> digits(uint32_t a) const;
  uint32_t number(const std::vector<uint32_t>& digits) const;
  std::vector<uint32_t> reduced(std::vector<uint32_t> polynomial, const std::vector<uint32_t>& modulus) const;
  bool is_irreducible(const std::vector<uint32_t>& polynomial) const;

  uint32_t p_, degree_, q_;
  std::vector<uint32_t> modulus_;  // [degree + 1], monic
  std::vector<int8_t> character_;  // [q]
};

}  // namespace shoehorn::hadamard
