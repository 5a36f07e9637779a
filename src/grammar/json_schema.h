// JSON Schema as a grammar.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/status.h"

namespace shoehorn::grammar {

/// GBNF of the JSON texts that are valid under `schema` (json-schema.org, draft 2020-12): its properties in the order
/// in which they stand there, white space between values. Known: type, properties, required, additionalProperties,
/// items, prefixItems, minItems, maxItems, enum, const, anyOf, oneOf (as anyOf), allOf, $ref into the schema itself,
/// minLength, maxLength, pattern, format (date, time, date-time, uuid), whole bounds of numbers. Objects whose
/// properties are listed have no others unless additionalProperties says so, as with llama.cpp. What would need more
/// than a grammar is refused with kUnsupported and the keyword; nothing is silently left out. kInvalid for what is no
/// schema.
Expected<std::string> gbnf_of_schema(const nlohmann::ordered_json& schema);

/// Any JSON object.
std::string gbnf_of_any_object();

}  // namespace shoehorn::grammar
