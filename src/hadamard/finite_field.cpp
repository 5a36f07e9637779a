#include "hadamard/finite_field.h"

namespace shoehorn::hadamard {

std::optional<PrimePower> prime_power(uint32_t q) {
  if (q < 2) return std::nullopt;
  uint32_t p = 2;
  while (p * p <= q && q % p != 0) ++p;
  if (p * p > q) p = q;
  PrimePower result = {p, 0};
  for (; q % p == 0; q /= p) ++result.degree;
  if (q != 1) return std::nullopt;
  return result;
}

FiniteField::FiniteField(PrimePower order) : p_(order.p), degree_(order.degree), q_(1) {
  for (uint32_t i = 0; i < degree_; ++i) q_ *= p_;
  // There is an irreducible polynomial of every degree.
  for (uint32_t low = 0; modulus_.empty(); ++low) {
    std::vector<uint32_t> candidate = digits(low);
    candidate.push_back(1);
    if (is_irreducible(candidate)) modulus_ = candidate;
  }
  character_.assign(q_, -1);
  for (uint32_t a = 1; a < q_; ++a) character_[multiply(a, a)] = 1;
  character_[0] = 0;
}

std::vector<uint32_t> FiniteField::digits(uint32_t a) const {
  std::vector<uint32_t> out(degree_);
  for (uint32_t& digit : out) {
    digit = a % p_;
    a /= p_;
  }
  return out;
}

uint32_t FiniteField::number(const std::vector<uint32_t>& digits) const {
  uint32_t a = 0;
  for (size_t i = degree_; i-- > 0;) a = a * p_ + digits[i];
  return a;
}

/// The remainder by a monic modulus, as long as the modulus less one.
std::vector<uint32_t> FiniteField::reduced(std::vector<uint32_t> polynomial,
                                           const std::vector<uint32_t>& modulus) const {
  const size_t degree = modulus.size() - 1;
  for (size_t top = polynomial.size(); top-- > degree;) {
    const uint32_t factor = polynomial[top];
    for (size_t i = 0; i <= degree; ++i) {
      uint32_t& digit = polynomial[top - degree + i];
      digit = (digit + (p_ - factor) * modulus[i]) % p_;
    }
  }
  polynomial.resize(degree);
  return polynomial;
}

/// By division with every monic polynomial of at most half its degree.
bool FiniteField::is_irreducible(const std::vector<uint32_t>& polynomial) const {
  const size_t degree = polynomial.size() - 1;
  uint32_t n_divisors = 1;
  for (size_t d = 1; d <= degree / 2; ++d) {
    n_divisors *= p_;
    for (uint32_t low = 0; low < n_divisors; ++low) {
      std::vector<uint32_t> divisor(d + 1, 0);
      uint32_t rest = low;
      for (size_t i = 0; i < d; ++i) {
        divisor[i] = rest % p_;
        rest /= p_;
      }
      divisor[d] = 1;
      bool divides = true;
      for (const uint32_t digit : reduced(polynomial, divisor)) divides = divides && digit == 0;
      if (divides) return false;
    }
  }
  return true;
}

uint32_t FiniteField::subtract(uint32_t a, uint32_t b) const {
  std::vector<uint32_t> x = digits(a);
  const std::vector<uint32_t> y = digits(b);
  for (size_t i = 0; i < degree_; ++i) x[i] = (x[i] + p_ - y[i]) % p_;
  return number(x);
}

uint32_t FiniteField::multiply(uint32_t a, uint32_t b) const {
  const std::vector<uint32_t> x = digits(a), y = digits(b);
  std::vector<uint32_t> product(2 * degree_ - 1, 0);
  for (size_t i = 0; i < degree_; ++i) {
    for (size_t j = 0; j < degree_; ++j) product[i + j] = (product[i + j] + x[i] * y[j]) % p_;
  }
  return number(reduced(product, modulus_));
}

}  // namespace shoehorn::hadamard
