// What answers have to look like.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "grammar/token_grammar.h"

namespace shoehorn::cli {

struct GrammarFlags {
  std::string grammar, grammar_file, schema, schema_file;

  /// --grammar, --grammar-file, -j, --json-schema-file
  void add_to(CLI::App& app);
  /// Nothing when none is given.
  Expected<std::shared_ptr<const grammar::TokenGrammar>> open(const tokenizer::Tokenizer& tokenizer) const;
};

}  // namespace shoehorn::cli
