#include "cli/recipe.h"

#include <algorithm>

#include "base/output_file.h"
#include "fit/toml_values.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxRecipeBytes = 1 << 20;

bool given(const std::vector<std::string>& arguments, const std::string& option) {
  return std::ranges::any_of(arguments, [&](const std::string& a) { return a == option || a.starts_with(option + "="); });
}

}  // namespace

Expected<std::vector<std::string>> with_recipe(std::vector<std::string> arguments) {
  const auto flag = std::ranges::find(arguments, "--recipe");
  if (flag == arguments.end() || flag + 1 == arguments.end()) return arguments;
  const std::string path = *(flag + 1), command = arguments.front();
  SHOEHORN_TRY(const std::string text, read_file(path, kMaxRecipeBytes));
  SHOEHORN_TRY(const toml::table parsed, fit::parse_toml(text, path));
  const auto* table = parsed[command].as_table();
  if (table == nullptr) return fail(ErrorCode::kInvalid, "{}: no table [{}] in it", path, command);
  for (const auto& [key, node] : *table) {
    const std::string option = "--" + std::string(key.str());
    if (given(arguments, option)) continue;
    if (const auto* flag_value = node.as_boolean()) {
      if (flag_value->get()) arguments.push_back(option);
      continue;
    }
    const auto value = fit::value_text(node);
    if (!value) return fail(ErrorCode::kInvalid, "{}: [{}] {}: expected a number, a text, true, false or a list of these", path, command, key.str());
    arguments.push_back(option);
    arguments.push_back(*value);
  }
  return arguments;
}

}  // namespace shoehorn::cli
