// Regular expressions of JSON Schema as a grammar.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace shoehorn::grammar {

/// GBNF of what is inside the quotes of a JSON string that matches `pattern` (ECMA-262; without ^ and $ anything may
/// stand around it). `any` is the GBNF of one character. kUnsupported for what looks around, back references and the
/// like.
Expected<std::string> gbnf_of_pattern(std::string_view pattern, std::string_view any);

/// A character as a GBNF class or literal has it.
std::string gbnf_escaped(uint32_t code_point);
/// Text as a GBNF literal, quotes around it.
std::string gbnf_literal(std::string_view text);

}  // namespace shoehorn::grammar
