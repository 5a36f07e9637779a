#include "cli/grammar_flags.h"

#include "base/json.h"
#include "base/output_file.h"
#include "grammar/json_schema.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 20;

Expected<std::string> gbnf_of_schema_text(const std::string& text) {
  SHOEHORN_TRY(const OrderedJson schema, parse_ordered_json(text));
  return grammar::gbnf_of_schema(schema);
}

}  // namespace

void GrammarFlags::add_to(CLI::App& app) {
  auto* of = app.add_option("--grammar", grammar, "Answers are texts of this grammar (GBNF)");
  auto* file = app.add_option("--grammar-file", grammar_file, "The same from a file")->excludes(of);
  auto* json = app.add_option("-j,--json-schema", schema, "Answers are JSON of this schema; {}: any JSON")
                   ->excludes(of)
                   ->excludes(file);
  app.add_option("--json-schema-file", schema_file, "The same from a file (also -jf)")
      ->excludes(of)
      ->excludes(file)
      ->excludes(json);
}

Expected<std::shared_ptr<const grammar::TokenGrammar>> GrammarFlags::open(const tokenizer::Tokenizer& tokenizer) const {
  std::string gbnf = grammar, name = "--grammar";
  if (!grammar_file.empty()) {
    SHOEHORN_TRY(gbnf, read_file(grammar_file, kMaxBytes));
    name = grammar_file;
  } else if (!schema.empty() || !schema_file.empty()) {
    name = schema_file.empty() ? "--json-schema" : schema_file;
    std::string text = schema;
    if (!schema_file.empty()) {
      SHOEHORN_TRY(text, read_file(schema_file, kMaxBytes));
    }
    auto converted = gbnf_of_schema_text(text);
    if (!converted) return annotate(converted.error(), name);
    gbnf = std::move(*converted);
  }
  if (gbnf.empty()) return nullptr;
  auto out = grammar::token_grammar(gbnf, std::make_shared<const grammar::TokenTexts>(tokenizer));
  if (!out) return annotate(out.error(), name);
  return out;
}

}  // namespace shoehorn::cli
