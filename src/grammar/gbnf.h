// GBNF, llama.cpp's notation of grammars (grammars/README.md there).
#pragma once

#include <string_view>

#include "grammar/grammar.h"

namespace shoehorn::grammar {

/// Parses `text`: rules NAME ::= alternatives of literals "...", classes [...], `.`, names, (groups) with * + ? {m,n}
/// behind them, comments with #. The rule `root` is the whole. Fails with kInvalid, the line, and what was expected;
/// kTooLarge when the repetitions written out are more than kMaxElements.
Expected<Grammar> parse_gbnf(std::string_view text);

}  // namespace shoehorn::grammar
