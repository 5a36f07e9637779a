// A grammar, and a text that it reads: what stands behind a zero byte, or the grammar itself.
#include "grammar/gbnf.h"

#include <memory>

#include "fuzz/target.h"
#include "grammar/automaton.h"

namespace shoehorn::fuzz {

std::string read_by_grammar(std::string_view gbnf, std::string_view text) {
  auto grammar = grammar::parse_gbnf(gbnf);
  if (!grammar) return message_of(grammar);
  grammar::Automaton automaton(std::make_shared<const grammar::Grammar>(std::move(*grammar)));
  grammar::Automaton::State state = automaton.start();
  for (const char c : text.substr(0, 200)) state = automaton.next(state, static_cast<uint8_t>(c));
  automaton.forget_others(state);
  return automaton.status() ? "" : automaton.status().error().message;
}

std::string run_gbnf(std::string_view input) {
  const size_t zero = input.find('\0');
  const std::string_view gbnf = input.substr(0, zero);
  return read_by_grammar(gbnf, zero == std::string_view::npos ? gbnf : input.substr(zero + 1));
}

}  // namespace shoehorn::fuzz
