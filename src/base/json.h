// nlohmann::json with limits on what comes from outside.
#pragma once

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/function_ref.h"
#include "base/status.h"

namespace shoehorn {

using Json = nlohmann::json;
/// Keys in the order in which they were written, which is looked up one by one.
using OrderedJson = nlohmann::ordered_json;

/// Parses text; refuses nesting deeper than `max_depth`, duplicate object keys are the last one's. Invalid UTF-8 is refused.
Expected<Json> parse_json(std::string_view text, int max_depth = 64);
/// The same with the order of keys, for objects of at most `max_keys`; the value of the outermost object's key `without`
/// is left out.
Expected<OrderedJson> parse_ordered_json(std::string_view text, int max_depth = 64, size_t max_keys = 512,
                                         std::string_view without = {});
/// Reads and parses a file of at most max_bytes (default 256 MiB); errors name the file.
Expected<Json> read_json(const std::string& path, uint64_t max_bytes = uint64_t{256} << 20);

/// Reads a file with one JSON value per line (jsonl) and calls visit(value) for each; empty lines are passed over. What is no JSON,
/// or what visit refuses, fails with "PATH:LINE: ...".
Status for_each_json_line(const std::string& path, FunctionRef<Status(const Json& value)> visit, uint64_t max_bytes = uint64_t{4} << 30);

/// True when a T can hold the number as it is.
template <class T>
bool holds(const Json& number) {
  if constexpr (std::is_floating_point_v<T>) {
    return true;
  } else {
    if (number.is_number_unsigned()) return std::in_range<T>(number.get<uint64_t>());
    if (number.is_number_integer()) return std::in_range<T>(number.get<int64_t>());
    const auto value = number.get<double>();
    const double end = std::ldexp(1.0, std::numeric_limits<T>::digits);
    return value == std::trunc(value) && value < end && value >= (std::is_signed_v<T> ? -end : 0);
  }
}

/// j[key] as T when present and of that type, else fallback. Never throws.
template <class T>
T json_or(const Json& j, const char* key, T fallback) {
  if (!j.is_object()) return fallback;
  const auto it = j.find(key);
  if (it == j.end() || it->is_null()) return fallback;
  if constexpr (std::is_same_v<T, bool>) {
    return it->is_boolean() ? it->template get<bool>() : fallback;
  } else if constexpr (std::is_arithmetic_v<T>) {
    return it->is_number() && holds<T>(*it) ? it->template get<T>() : fallback;
  } else {
    return it->is_string() ? it->template get<std::string>() : fallback;
  }
}

}  // namespace shoehorn
