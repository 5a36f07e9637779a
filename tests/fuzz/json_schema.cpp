// A JSON schema, the grammar that becomes of it, and a text that it reads: what stands behind a zero byte, or "{}".
#include "grammar/json_schema.h"

#include "base/json.h"
#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string read_by_grammar(std::string_view gbnf, std::string_view text);

std::string run_json_schema(std::string_view input) {
  const size_t zero = input.find('\0');
  const auto schema = parse_ordered_json(input.substr(0, zero));
  if (!schema) return message_of(schema);
  const auto gbnf = grammar::gbnf_of_schema(*schema);
  if (!gbnf) return message_of(gbnf);
  return read_by_grammar(*gbnf, zero == std::string_view::npos ? "{\"a\": [1]}" : input.substr(zero + 1));
}

}  // namespace shoehorn::fuzz
