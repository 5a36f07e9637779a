#include "hadamard/matrix.h"

#include <fmt/format.h>

#include <bit>
#include <map>

#include "hadamard/finite_field.h"

namespace shoehorn::hadamard {
namespace {

/// Paley's conference matrix of order q + 1: a border of ones about the characters of the differences. For q = 3 modulo
/// 4 it is skew, so that its first column is negative.
std::vector<int8_t> conference(uint32_t q) {
  const FiniteField field(*prime_power(q));
  const size_t n = q + 1;
  std::vector<int8_t> c(n * n, 0);
  const int8_t column = q % 4 == 3 ? -1 : 1;
  for (size_t i = 1; i < n; ++i) {
    c[i] = 1;
    c[i * n] = column;
    for (size_t j = 1; j < n; ++j) {
      c[i * n + j] = static_cast<int8_t>(
          field.character(field.subtract(static_cast<uint32_t>(i - 1), static_cast<uint32_t>(j - 1))));
    }
  }
  return c;
}

std::vector<int8_t> paley1(uint32_t q) {
  std::vector<int8_t> h = conference(q);
  const size_t n = q + 1;
  for (size_t i = 0; i < n; ++i) h[i * n + i] = 1;
  return h;
}

/// C x [1 1; 1 -1] + I x [1 -1; -1 -1]
std::vector<int8_t> paley2(uint32_t q) {
  const std::vector<int8_t> c = conference(q);
  const size_t n = q + 1;
  std::vector<int8_t> h(4 * n * n);
  constexpr int8_t kOff[2][2] = {{1, 1}, {1, -1}}, kDiagonal[2][2] = {{1, -1}, {-1, -1}};
  for (size_t i = 0; i < 2 * n; ++i) {
    for (size_t j = 0; j < 2 * n; ++j) {
      const int8_t sign = i / 2 == j / 2 ? kDiagonal[i % 2][j % 2] : kOff[i % 2][j % 2];
      const int8_t entry = i / 2 == j / 2 ? int8_t{1} : c[i / 2 * n + j / 2];
      h[i * 2 * n + j] = static_cast<int8_t>(sign * entry);
    }
  }
  return h;
}

std::vector<int8_t> sylvester(size_t order) {
  std::vector<int8_t> h(order * order);
  for (size_t i = 0; i < order; ++i) {
    for (size_t j = 0; j < order; ++j) h[i * order + j] = std::popcount(i & j) % 2 == 0 ? 1 : -1;
  }
  return h;
}

/// The cheapest products of the divisors of a number, each made once.
class Products {
 public:
  struct Product {
    size_t cost = 0;
    std::vector<Factor> factors;
    size_t log2 = 0;
  };

  /// Nothing when there is none.
  const std::optional<Product>& of(size_t n) {
    if (const auto known = known_.find(n); known != known_.end()) return known->second;
    std::optional<Product> best;
    if (std::has_single_bit(n))
      best = Product{static_cast<size_t>(std::countr_zero(n)), {}, static_cast<size_t>(std::countr_zero(n))};
    for (size_t order = 4; order <= kMaxDense && order <= n; order += 4) {
      // Orders of two powers are cheaper as Sylvester's.
      if (n % order != 0 || std::has_single_bit(order)) continue;
      const auto factor = paley(order);
      if (!factor) continue;
      const auto& rest = of(n / order);
      if (!rest || (best && rest->cost + order >= best->cost)) continue;
      best = *rest;
      best->cost += order;
      best->factors.insert(best->factors.begin(), *factor);
    }
    return known_[n] = std::move(best);
  }

 private:
  std::map<size_t, std::optional<Product>> known_;
};

}  // namespace

std::optional<Factor> paley(size_t order) {
  if (order < 4 || order % 4 != 0 || order > (size_t{1} << 16)) return std::nullopt;
  const auto q1 = static_cast<uint32_t>(order - 1), q2 = static_cast<uint32_t>(order / 2 - 1);
  if (prime_power(q1)) return Factor{Construction::kPaley1, order, q1};  // q = order - 1 is 3 modulo 4
  if (q2 % 4 == 1 && prime_power(q2)) return Factor{Construction::kPaley2, order, q2};
  return std::nullopt;
}

std::vector<int8_t> matrix(const Factor& factor) {
  switch (factor.construction) {
    case Construction::kPaley1:
      return paley1(factor.q);
    case Construction::kPaley2:
      return paley2(factor.q);
    case Construction::kSylvester:
      break;
  }
  return sylvester(factor.order);
}

size_t Plan::dense() const {
  size_t sum = 0;
  for (const Factor& factor : factors) sum += factor.order;
  return sum;
}

std::string Plan::describe() const {
  std::string product;
  for (const Factor& factor : factors) product += fmt::format("{}{}", product.empty() ? "" : " x ", factor.order);
  if (log2 > 0 || product.empty()) product += fmt::format("{}{}", product.empty() ? "" : " x ", size_t{1} << log2);
  return whole() ? product : fmt::format("{} blocks of {}", n / block, product);
}

Expected<Plan> plan(size_t n) {
  if (n == 0 || n % 2 != 0) {
    return fail(ErrorCode::kInvalid, "there is no Hadamard matrix of order {}: orders are 1, 2 and multiples of 4", n);
  }
  Products products;
  for (size_t blocks = 1; blocks <= n; ++blocks) {
    if (n % blocks != 0) continue;
    const auto& product = products.of(n / blocks);
    if (!product) continue;
    Plan plan = {n, n / blocks, product->factors, product->log2};
    if (plan.dense() <= kMaxDense) return plan;
  }
  return fail(ErrorCode::kInvalid, "there is no Hadamard matrix for {} values", n);
}

}  // namespace shoehorn::hadamard
