// Runs a syntax tree.
#pragma once

#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tokenizer/jinja_ast.h"

namespace shoehorn::tokenizer::jinja {

/// The text that `program` prints with these global variables. Errors start with "line N: " and say what was wrong
/// there; the message of raise_exception() comes unchanged behind that.
Expected<std::string> evaluate(const Program& program, Heap& heap, const std::tm& now,
                               std::vector<std::pair<std::string, Value>> globals);

}  // namespace shoehorn::tokenizer::jinja
