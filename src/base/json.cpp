#include "base/json.h"

#include "base/output_file.h"

namespace shoehorn {

Expected<Json> parse_json(std::string_view text, int max_depth) {
  // The parser itself does not recurse, but the value's destructor does. Leaving by an exception also keeps what is parsed
  // so far, and with it the memory, small.
  struct TooDeep {};
  const auto depth_guard = [&](int depth, Json::parse_event_t event, Json&) {
    const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (opens && depth >= max_depth) throw TooDeep{};
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), depth_guard);
  } catch (const TooDeep&) {
    return fail(ErrorCode::kInvalid, "JSON nested deeper than {} levels", max_depth);
  } catch (const Json::exception& e) {
    return fail(ErrorCode::kInvalid, "not valid JSON: {}", e.what());
  }
}

Expected<Json> read_json(const std::string& path, uint64_t max_bytes) {
  SHOEHORN_TRY(const std::string text, read_file(path, max_bytes));
  auto value = parse_json(text);
  if (!value) return annotate(value.error(), path);
  return value;
}

Status for_each_json_line(const std::string& path, FunctionRef<Status(const Json& value)> visit, uint64_t max_bytes) {
  SHOEHORN_TRY(const std::string text, read_file(path, max_bytes));
  size_t line_number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path, line_number);
    const auto value = parse_json(line);
    if (!value) return annotate(value.error(), where);
    if (const Status visited = visit(*value); !visited) return annotate(visited.error(), where);
  }
  return {};
}

}  // namespace shoehorn
