// Numbers between two bounds as a grammar.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace shoehorn::grammar {

/// The largest bound: what is left open ends there.
inline constexpr int64_t kMostWhole = 9'999'999'999'999'999;

/// GBNF of the whole numbers from `least` to `most`, in decimal, without leading zeros. least <= most.
std::string gbnf_of_whole_numbers(std::optional<int64_t> least, std::optional<int64_t> most);

/// GBNF of the numbers from `least` to `most`, without exponents; `fraction` is the GBNF of a point and digits.
std::string gbnf_of_numbers(std::optional<int64_t> least, std::optional<int64_t> most, const std::string& fraction);

}  // namespace shoehorn::grammar
