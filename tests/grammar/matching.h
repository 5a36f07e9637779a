// Whole texts and a grammar.
#pragma once

#include <string_view>

#include "grammar/automaton.h"
#include "grammar/gbnf.h"

namespace shoehorn::grammar {

inline bool matches(Automaton& automaton, std::string_view text) {
  Automaton::State state = automaton.start();
  for (const char byte : text) state = automaton.next(state, static_cast<uint8_t>(byte));
  return automaton.accepts(state);
}

/// Whether `text` belongs to the grammar; a grammar that is none is a failure of the test.
inline bool matches(std::string_view gbnf, std::string_view text) {
  auto grammar = parse_gbnf(gbnf);
  if (!grammar) throw std::runtime_error(grammar.error().message + "\n" + std::string(gbnf));
  Automaton automaton(std::make_shared<const Grammar>(std::move(*grammar)));
  return matches(automaton, text);
}

}  // namespace shoehorn::grammar
