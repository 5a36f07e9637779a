#include "grammar/number_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace shoehorn::grammar {
namespace {

using Strings = std::vector<std::string>;

std::string digits(char low, char high, size_t more) {
  std::string out = low == high ? fmt::format("\"{}\"", low) : fmt::format("[{}-{}]", low, high);
  if (more > 0) out += fmt::format(" [0-9]{{{}}}", more);
  return out;
}

/// Numbers of as many digits from `low` to `high`, behind `before`.
void same_length(const std::string& before, std::string_view low, std::string_view high, Strings& out) {
  const auto all = [](std::string_view text, char digit) {
    return text.find_first_not_of(digit) == std::string_view::npos;
  };
  const size_t more = low.size() - 1;
  const std::string_view low_rest = low.substr(1), high_rest = high.substr(1);
  const auto one = [&](char digit) { return fmt::format("{}\"{}\" ", before, digit); };
  if (low[0] == high[0] && more > 0) return same_length(one(low[0]), low_rest, high_rest, out);
  char first = low[0], last = high[0];
  if (!all(low_rest, '0')) same_length(one(first++), low_rest, std::string(more, '9'), out);
  if (!all(high_rest, '9')) same_length(one(last--), std::string(more, '0'), high_rest, out);
  if (first <= last) out.push_back(before + digits(first, last, more));
}

/// From `low` to `high`, neither below 0.
void positive(const std::string& before, int64_t low, int64_t high, Strings& out) {
  for (int64_t ten = 10; low <= high; ten *= 10) {
    const int64_t end = std::min(high, ten - 1);
    if (low > end) continue;
    same_length(before, std::to_string(low), std::to_string(end), out);
    low = end + 1;
  }
}

void whole_numbers(int64_t least, int64_t most, Strings& out) {
  if (least < 0) positive("\"-\" ", std::max<int64_t>(1, -most), -least, out);
  if (most >= 0) positive("", std::max<int64_t>(0, least), most, out);
}

}  // namespace

std::string gbnf_of_whole_numbers(std::optional<int64_t> least, std::optional<int64_t> most) {
  Strings out;
  whole_numbers(least.value_or(-kMostWhole), most.value_or(kMostWhole), out);
  return fmt::format("{}", fmt::join(out, " | "));
}

std::string gbnf_of_numbers(std::optional<int64_t> least, std::optional<int64_t> most, const std::string& fraction) {
  // A whole number at a bound, and one with a fraction behind it that leads away from zero, less far than the bound.
  const int64_t low = least.value_or(-kMostWhole), high = most.value_or(kMostWhole);
  Strings whole, negative, positive_ones;
  whole_numbers(low, high, whole);
  // -n.f is between -n - 1 and -n, n.f between n and n + 1.
  if (low < 0) positive("\"-\" ", std::max<int64_t>(0, -high), -low - 1, negative);
  if (high > 0) positive("", std::max<int64_t>(0, low), high - 1, positive_ones);
  Strings out = {fmt::format("({}) (\".\" \"0\"{{1,16}})?", fmt::join(whole, " | "))};
  for (const Strings& some : {negative, positive_ones}) {
    if (!some.empty()) out.push_back(fmt::format("({}) {}", fmt::join(some, " | "), fraction));
  }
  return fmt::format("{}", fmt::join(out, " | "));
}

}  // namespace shoehorn::grammar
