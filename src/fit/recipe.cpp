#include "fit/recipe.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "fit/toml_values.h"

namespace shoehorn::fit {
namespace {

constexpr std::array<std::string_view, 6> kCommands = {"prune", "heal", "rotate", "convert", "imatrix", "quantize"};
constexpr std::array<std::string_view, 4> kInputs = {"model", "calib", "data", "eval"};
/// Said by the runner, not by a recipe.
constexpr std::array<std::string_view, 7> kReserved = {"output", "o", "json", "quiet", "q", "resume", "recipe"};
constexpr size_t kMaxStages = 200;

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 100 && name.front() != '.' && name.front() != '-' &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                  c == '.';
         });
}

Expected<Stage> read_stage(const toml::table& table, const std::string& where) {
  Stage out;
  for (const auto& [key_node, node] : table) {
    const std::string key(key_node.str());
    const auto* flag = node.as_boolean();
    const auto value = flag == nullptr ? value_text(node) : std::optional<std::string>(flag->get() ? "true" : "");
    if (!value)
      return fail(ErrorCode::kInvalid, "{}: {}: a number, a text, true, false or a list of these is expected", where,
                  key);
    if (key == "command") {
      out.command = *value;
    } else if (key == "name") {
      out.name = *value;
    } else if (key == "in") {
      out.in = *value;
    } else if (key == "type" && table["command"].value_or(std::string()) == "quantize") {
      out.type = *value;
    } else if (key == "max_kl") {
      const auto number = node.value<double>();
      if (!number || !(*number >= 0))
        return fail(ErrorCode::kInvalid, "{}: max_kl is \"{}\", a number from 0 is expected", where, *value);
      out.max_kl = *number;
    } else if (std::ranges::find(kReserved, key) != kReserved.end()) {
      return fail(ErrorCode::kInvalid, "{}: {} is not for a recipe to say", where, key);
    } else if (!value->empty()) {
      out.options.emplace_back(key, *value);
    }
  }
  return out;
}

/// Checks a stage against those before it and fills in what it leaves open.
Status complete(Stage& stage, const Recipe& before, const std::string& where) {
  if (std::ranges::find(kCommands, stage.command) == kCommands.end()) {
    return fail(ErrorCode::kInvalid, "{}: command is \"{}\"; there are {}", where, stage.command,
                fmt::join(kCommands, ", "));
  }
  if (stage.command == "quantize" && stage.type.empty())
    return fail(ErrorCode::kInvalid, "{}: quantize needs a type, such as \"Q4_K_M\"", where);
  if (stage.name.empty()) stage.name = stage.command == "quantize" ? stage.type : stage.command;
  if (!is_name(stage.name))
    return fail(ErrorCode::kInvalid, "{}: \"{}\" is no name of letters, digits, \"-\", \"_\" and \".\"", where,
                stage.name);
  const auto find = [&](std::string_view name) { return std::ranges::find(before.stages, name, &Stage::name); };
  if (std::ranges::find(kInputs, stage.name) != kInputs.end() || find(stage.name) != before.stages.end()) {
    return fail(ErrorCode::kInvalid, "{}: the name {} is taken", where, stage.name);
  }
  if (stage.in.empty()) {
    stage.in = "model";
    for (const Stage& earlier : before.stages) {
      if (earlier.writes_checkpoint()) stage.in = earlier.name;
    }
  }
  if (stage.in != "model") {
    const auto in = find(stage.in);
    if (in == before.stages.end())
      return fail(ErrorCode::kInvalid, "{}: in is \"{}\", which no stage before it makes", where, stage.in);
    const bool fits =
        stage.writes_checkpoint() || stage.command == "convert" ? in->writes_checkpoint() : in->command != "imatrix";
    if (!fits) return fail(ErrorCode::kInvalid, "{}: {} cannot read what {} makes", where, stage.command, in->command);
  }
  for (const auto& [key, value] : stage.options) {
    if (!value.starts_with('@')) continue;
    const std::string_view name = std::string_view(value).substr(1);
    if (std::ranges::find(kInputs, name) == kInputs.end() && find(name) == before.stages.end()) {
      return fail(ErrorCode::kInvalid, "{}: {} is \"{}\", which is no input and no stage before it makes", where, key,
                  value);
    }
  }
  return {};
}

}  // namespace

bool Stage::reads(std::string_view output) const {
  return in == output || std::ranges::any_of(options, [&](const auto& option) {
           return option.second.starts_with('@') && std::string_view(option.second).substr(1) == output;
         });
}

std::string_view Stage::option(std::string_view key) const {
  const auto found = std::ranges::find(options, key, &std::pair<std::string, std::string>::first);
  return found == options.end() ? std::string_view() : found->second;
}

bool Recipe::drops(size_t made, size_t done) const {
  if (!stages[made].writes_checkpoint() || made + 1 == stages.size()) return false;
  return std::none_of(stages.begin() + static_cast<std::ptrdiff_t>(done) + 1, stages.end(),
                      [&](const Stage& later) { return later.reads(stages[made].name); });
}

Expected<Recipe> parse_recipe(std::string_view text, const std::string& source) {
  SHOEHORN_TRY(const toml::table parsed, parse_toml(text, source));
  Recipe out;
  const toml::array* stages = nullptr;
  for (const auto& [key, node] : parsed) {
    if (key == "stage") {
      stages = node.as_array();
      if (stages == nullptr) return fail(ErrorCode::kInvalid, "{}: stages are written [[stage]]", source);
      continue;
    }
    if (key == "eval_chunks") {
      const auto chunks = node.value<int64_t>();
      if (!chunks || *chunks < 1 || *chunks > 1'000'000)
        return fail(ErrorCode::kInvalid, "{}: eval_chunks: a number from 1 to 1000000 is expected", source);
      out.eval_chunks = static_cast<int>(*chunks);
      continue;
    }
    std::string* const input = key == "model"   ? &out.model
                               : key == "calib" ? &out.calib
                               : key == "data"  ? &out.data
                               : key == "eval"  ? &out.eval
                                                : nullptr;
    const auto* value = node.as_string();
    if (input == nullptr || value == nullptr) {
      return fail(ErrorCode::kInvalid,
                  "{}: {}: there are model, calib, data and eval, which are texts, eval_chunks and [[stage]]", source,
                  key.str());
    }
    *input = value->get();
  }
  if (stages == nullptr || stages->empty() || stages->size() > kMaxStages) {
    return fail(ErrorCode::kInvalid, "{}: from 1 to {} [[stage]] are expected", source, kMaxStages);
  }
  for (const toml::node& node : *stages) {
    const std::string where = fmt::format("{}: stage {}", source, out.stages.size() + 1);
    const auto* table = node.as_table();
    if (table == nullptr) return fail(ErrorCode::kInvalid, "{}: a table is expected", where);
    SHOEHORN_TRY(Stage stage, read_stage(*table, where));
    SHOEHORN_RETURN_IF_ERROR(complete(stage, out, where));
    out.stages.push_back(std::move(stage));
  }
  return out;
}

std::string to_toml(const Recipe& recipe) {
  std::string out;
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) out += fmt::format("{} = {}\n", key, quoted(value));
  };
  add("model", recipe.model);
  add("calib", recipe.calib);
  add("data", recipe.data);
  add("eval", recipe.eval);
  out += fmt::format("eval_chunks = {}\n", recipe.eval_chunks);
  for (const Stage& stage : recipe.stages) {
    out += "\n[[stage]]\n";
    add("command", stage.command);
    add("name", stage.name);
    add("in", stage.in);
    add("type", stage.type);
    if (stage.max_kl > 0) out += fmt::format("max_kl = {}\n", stage.max_kl);
    for (const auto& [key, value] : stage.options)
      out += value == "true" ? fmt::format("{} = true\n", key) : fmt::format("{} = {}\n", key, quoted(value));
  }
  return out;
}

}  // namespace shoehorn::fit
