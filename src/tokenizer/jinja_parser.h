// Template source -> syntax tree.
#pragma once

#include <string_view>

#include "base/status.h"
#include "tokenizer/jinja_ast.h"

namespace shoehorn::tokenizer::jinja {

/// Jinja 3.1's grammar without template inheritance, includes and recursive loops. Errors start with "line N: ".
Expected<Program> parse_program(std::string_view source);

}  // namespace shoehorn::tokenizer::jinja
