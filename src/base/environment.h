// Variables of the environment.
#pragma once

#include <cstdlib>
#include <string>

namespace shoehorn {

/// A variable's value; "" when it is not set.
inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace shoehorn
