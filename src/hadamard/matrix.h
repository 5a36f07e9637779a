// Hadamard matrices: entries 1 and -1, rows orthogonal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::hadamard {

enum class Construction : uint8_t {
  kSylvester,  ///< order 2^k: Kronecker powers of that of order 2 (Sylvester 1867)
  kPaley1,     ///< order q + 1, q = 3 modulo 4 a prime power (Paley 1933, On Orthogonal Matrices)
  kPaley2,     ///< order 2 (q + 1), q = 1 modulo 4 a prime power (the same)
};

/// A matrix that is not a Kronecker product of smaller ones here.
struct Factor {
  Construction construction;
  size_t order;
  uint32_t q = 0;  ///< of the field, for Paley's
};

/// Paley's matrix of this order, the first construction where there are both; nothing where there is neither.
std::optional<Factor> paley(size_t order);

/// [order, order] of 1 and -1, row after row.
std::vector<int8_t> matrix(const Factor& factor);

/// The largest order of a dense factor, and of all dense factors of a product together: what a column costs in
/// additions.
constexpr size_t kMaxDense = 512;

/// How n values are transformed: in n / block blocks, each by the Kronecker product of `factors` (the first is that of
/// the slowest index) and a Sylvester matrix of order 2^log2.
struct Plan {
  size_t n = 0, block = 0;
  std::vector<Factor> factors;  ///< dense ones
  size_t log2 = 0;

  size_t dense() const;  ///< sum of the orders of `factors`
  bool whole() const { return block == n; }
  /// "12 x 28 x 32", or with the number of blocks in front: "59 blocks of 256"
  std::string describe() const;
};

/// The cheapest product of order n: the sum of its dense orders and of the steps of its Sylvester matrix. Where there
/// is none within kMaxDense, the same for the largest divisor of n that has one. kInvalid when n is odd (there is no
/// such matrix) or 0.
Expected<Plan> plan(size_t n);

}  // namespace shoehorn::hadamard
