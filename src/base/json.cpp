#include "base/json.h"

#include "base/output_file.h"

namespace shoehorn {

Expected<Json> parse_json(std::string_view text, int max_depth) {
  bool too_deep = false;
  const auto depth_guard = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > max_depth) too_deep = true;
    return !too_deep;
  };
  try {
    // The parser recurses nowhere; the value's destructor does, so the depth is capped while parsing.
    Json value = Json::parse(text.begin(), text.end(), depth_guard);
    if (too_deep) return fail(ErrorCode::kInvalid, "JSON nested deeper than {} levels", max_depth);
    return value;
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

}  // namespace shoehorn
