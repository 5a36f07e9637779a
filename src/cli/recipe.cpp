#include "cli/recipe.h"

#include <algorithm>
#include <optional>
#include <sstream>
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/output_file.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxRecipeBytes = 1 << 20;

std::optional<std::string> scalar_text(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  return std::nullopt;
}

std::optional<std::string> value_text(const toml::node& node) {
  const auto* list = node.as_array();
  if (list == nullptr) return scalar_text(node);
  std::string joined;
  for (const toml::node& item : *list) {
    const auto text = scalar_text(item);
    if (!text) return std::nullopt;
    joined += (joined.empty() ? "" : ",") + *text;
  }
  return joined;
}

bool given(const std::vector<std::string>& arguments, const std::string& option) {
  return std::ranges::any_of(arguments, [&](const std::string& a) { return a == option || a.starts_with(option + "="); });
}

}  // namespace

Expected<std::vector<std::string>> with_recipe(std::vector<std::string> arguments) {
  const auto flag = std::ranges::find(arguments, "--recipe");
  if (flag == arguments.end() || flag + 1 == arguments.end()) return arguments;
  const std::string path = *(flag + 1), command = arguments.front();
  SHOEHORN_TRY(const std::string text, read_file(path, kMaxRecipeBytes));
  const toml::parse_result parsed = toml::parse(text, path);
  if (!parsed) {
    return fail(ErrorCode::kInvalid, "{}:{}: {}", path, parsed.error().source().begin.line, parsed.error().description());
  }
  const auto* table = parsed.table()[command].as_table();
  if (table == nullptr) return fail(ErrorCode::kInvalid, "{}: no table [{}] in it", path, command);
  for (const auto& [key, node] : *table) {
    const std::string option = "--" + std::string(key.str());
    if (given(arguments, option)) continue;
    if (const auto* flag_value = node.as_boolean()) {
      if (flag_value->get()) arguments.push_back(option);
      continue;
    }
    const auto value = value_text(node);
    if (!value) return fail(ErrorCode::kInvalid, "{}: [{}] {}: expected a number, a text, true, false or a list of these", path, command, key.str());
    arguments.push_back(option);
    arguments.push_back(*value);
  }
  return arguments;
}

}  // namespace shoehorn::cli
