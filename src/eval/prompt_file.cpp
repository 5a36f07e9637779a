#include "eval/prompt_file.h"

#include <unordered_set>

#include "base/json.h"
#include "eval/json_fields.h"

namespace shoehorn::eval {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && std::string_view(text).substr(text.size() - end.size()) == end;
}

/// Text or a list of texts; nothing when the field is not there.
Expected<std::vector<std::string>> references_of(const Json& j) {
  for (const char* key : {"references", "reference", "output"}) {
    const auto field = j.find(key);
    if (field == j.end()) continue;
    if (field->is_array()) return texts_field(j, key, 1);
    SHOEHORN_TRY(std::string text, text_field(j, key));
    return std::vector<std::string>{std::move(text)};
  }
  return std::vector<std::string>{};
}

Expected<PromptItem> item_of(const Json& j) {
  PromptItem item;
  item.id = id_field(j, "");
  if (j.is_object() && j.contains("instruction")) {
    SHOEHORN_TRY(item.prompt, text_field(j, "instruction"));
    item.instruction = true;
    const Json* source = &j;
    if (j.contains("instances")) {
      const Json& instances = j["instances"];
      if (!instances.is_array() || instances.empty() || !instances[0].is_object()) {
        return fail(ErrorCode::kInvalid, "\"instances\" is no list of objects");
      }
      source = &instances[0];
    }
    if (source->contains("input")) {
      SHOEHORN_TRY(item.input, text_field(*source, "input"));
    }
    SHOEHORN_TRY(item.references, references_of(*source));
  } else {
    SHOEHORN_TRY(item.prompt, text_field(j, "prompt"));
    SHOEHORN_TRY(item.references, references_of(j));
  }
  if (j.contains("system")) {
    SHOEHORN_TRY(item.system, text_field(j, "system"));
  }
  if (j.contains("n")) {
    SHOEHORN_TRY(const size_t n, index_field(j, "n", size_t{1} << 20));
    item.max_tokens = static_cast<int64_t>(n);
  }
  if (strip(item.prompt).empty()) return fail(ErrorCode::kInvalid, "the prompt is empty");
  return item;
}

}  // namespace

Expected<std::vector<PromptItem>> read_prompts(const std::string& path) {
  std::vector<PromptItem> items;
  const auto add = [&](const Json& j) -> Status {
    SHOEHORN_TRY(auto item, item_of(j));
    items.push_back(std::move(item));
    return {};
  };
  if (ends_with(path, ".jsonl")) {
    SHOEHORN_RETURN_IF_ERROR(for_each_json_line(path, add));
  } else if (ends_with(path, ".json")) {
    SHOEHORN_TRY(const Json file, read_json(path));
    if (!file.is_array())
      return fail(ErrorCode::kInvalid, "{}: a list is expected, this is a {}", path, file.type_name());
    for (size_t i = 0; i < file.size(); ++i) {
      if (const Status added = add(file[i]); !added)
        return annotate(added.error(), fmt::format("{}: element {}", path, i));
    }
  } else {
    SHOEHORN_TRY(auto lines, read_lines(path, kMaxBytes));
    for (std::string& line : lines) {
      if (strip(line).empty()) continue;
      items.emplace_back();
      items.back().prompt = std::move(line);
    }
  }
  if (items.empty()) return fail(ErrorCode::kInvalid, "{}: there is no prompt in it", path);
  std::unordered_set<std::string> ids;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].id.empty()) items[i].id = std::to_string(i);
    if (!ids.insert(items[i].id).second)
      return fail(ErrorCode::kInvalid, "{}: the id \"{}\" is there twice", path, items[i].id);
  }
  return items;
}

std::string user_message(const PromptItem& item) {
  return item.input.empty() ? item.prompt : item.prompt + "\n\n" + item.input;
}

std::string plain_prompt(const PromptItem& item) {
  const std::string system = item.system.empty() ? "" : item.system + "\n\n";
  if (!item.instruction) return system + item.prompt;
  if (item.input.empty()) {
    return system +
           "Below is an instruction that describes a task. Write a response that appropriately completes the "
           "request.\n\n"
           "### Instruction:\n" +
           item.prompt + "\n\n### Response:\n";
  }
  return system +
         "Below is an instruction that describes a task, paired with an input that provides further context. "
         "Write a response that appropriately completes the request.\n\n### Instruction:\n" +
         item.prompt + "\n\n### Input:\n" + item.input + "\n\n### Response:\n";
}

}  // namespace shoehorn::eval
