// A strict reader of what the report writes: HTML that is well-formed XML.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoehorn::test {

/// What is wrong with the document, "" when nothing is: tags balanced, attributes quoted and unique, no stray & or <,
/// no control characters. <!DOCTYPE html> may stand in front; <style> holds text without tags.
std::string what_is_malformed(std::string_view document);

/// The values of an attribute, in order, wherever it stands.
std::vector<std::string> attribute_values(std::string_view document, std::string_view name);

/// The cells of the row that begins with `first`, of the first table whose caption begins with `title`: tags removed,
/// entities resolved, without small print. Empty when there is no such row.
std::vector<std::string> table_row(std::string_view document, std::string_view title, std::string_view first);

/// Text between tags, entities resolved.
std::string plain_text(std::string_view markup);

}  // namespace shoehorn::test
