#include "eval/json_fields.h"

#include <algorithm>
#include <charconv>

#include "base/output_file.h"

namespace shoehorn::eval {
namespace {

Expected<const Json*> field(const Json& j, const char* key) {
  if (!j.is_object()) return fail(ErrorCode::kInvalid, "a JSON object is expected, this is a {}", j.type_name());
  const auto it = j.find(key);
  if (it == j.end()) return fail(ErrorCode::kInvalid, "the field \"{}\" is missing", key);
  return &*it;
}

}  // namespace

Expected<std::string> text_field(const Json& j, const char* key) {
  SHOEHORN_TRY(const Json* value, field(j, key));
  if (!value->is_string())
    return fail(ErrorCode::kInvalid, "the field \"{}\" is a {}, text is expected", key, value->type_name());
  return value->get<std::string>();
}

Expected<std::vector<std::string>> texts_field(const Json& j, const char* key, size_t min) {
  SHOEHORN_TRY(const Json* value, field(j, key));
  if (!value->is_array())
    return fail(ErrorCode::kInvalid, "the field \"{}\" is a {}, a list is expected", key, value->type_name());
  std::vector<std::string> out;
  for (const Json& element : *value) {
    if (!element.is_string()) {
      return fail(ErrorCode::kInvalid, "element {} of \"{}\" is a {}, text is expected", out.size(), key,
                  element.type_name());
    }
    out.push_back(element.get<std::string>());
  }
  if (out.size() < min)
    return fail(ErrorCode::kInvalid, "\"{}\" has {} elements, at least {} are needed", key, out.size(), min);
  return out;
}

Expected<size_t> parse_index(std::string_view text, const char* key, size_t n) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value >= n) {
    return fail(ErrorCode::kInvalid, "\"{}\" is \"{}\", an index from 0 to {} is expected", key, text.substr(0, 40),
                n - 1);
  }
  return value;
}

Expected<size_t> index_field(const Json& j, const char* key, size_t n) {
  SHOEHORN_TRY(const Json* value, field(j, key));
  if (value->is_string()) return parse_index(value->get_ref<const std::string&>(), key, n);
  if (!value->is_number_integer()) {
    return fail(ErrorCode::kInvalid, "the field \"{}\" is a {}, an index is expected", key, value->type_name());
  }
  return parse_index(value->dump(), key, n);
}

std::string id_field(const Json& j, const std::string& fallback) {
  if (!j.is_object()) return fallback;
  const auto it = j.find("id");
  if (it == j.end()) return fallback;
  if (it->is_string()) return it->get<std::string>();
  return it->is_number_integer() ? it->dump() : fallback;
}

Expected<std::vector<std::string>> read_lines(const std::string& path, uint64_t max_bytes) {
  SHOEHORN_TRY(const std::string text, read_file(path, max_bytes));
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    if (!lines.back().empty() && lines.back().back() == '\r') lines.back().pop_back();
    at = end + 1;
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

std::string strip(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

}  // namespace shoehorn::eval
