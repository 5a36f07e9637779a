// What recipes and devices have in common as TOML.
#pragma once

#include <optional>
#include <string>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace shoehorn::fit {

/// A number or a text as an option's value, a list of these joined by commas; nothing for what is neither.
std::optional<std::string> value_text(const toml::node& node);

/// A text as TOML's basic string; control characters become spaces.
std::string quoted(const std::string& text);

}  // namespace shoehorn::fit
