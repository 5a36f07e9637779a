#include "base/json.h"

#include "base/output_file.h"

namespace shoehorn {

namespace {

template <class Value>
Expected<Value> parse(std::string_view text, int max_depth, size_t max_keys, std::string_view without) {
  // The parser itself does not recurse, but the value's destructor does. Leaving by an exception also keeps what is parsed
  // so far, and with it the memory, small.
  struct Refused {
    tl::unexpected<Error> why;
  };
  std::vector<size_t> n_keys;  // of the open object at each depth
  using Event = typename Value::parse_event_t;
  const auto guard = [&](int depth, Event event, Value& value) {
    const auto level = static_cast<size_t>(depth);
    if ((event == Event::object_start || event == Event::array_start) && depth >= max_depth)
      throw Refused{fail(ErrorCode::kInvalid, "JSON nested deeper than {} levels", max_depth)};
    if (event == Event::object_start) {
      n_keys.resize(std::max(n_keys.size(), level + 2));
      n_keys[level + 1] = 0;
    }
    if (event != Event::key) return true;
    if (depth == 1 && !without.empty() && value.template get_ref<const std::string&>() == without) return false;
    if (++n_keys[level] > max_keys) throw Refused{fail(ErrorCode::kTooLarge, "a JSON object of more than {} keys", max_keys)};
    return true;
  };
  try {
    return Value::parse(text.begin(), text.end(), guard);
  } catch (const Refused& refused) {
    return refused.why;
  } catch (const typename Value::exception& e) {
    return fail(ErrorCode::kInvalid, "not valid JSON: {}", e.what());
  }
}

}  // namespace

Expected<Json> parse_json(std::string_view text, int max_depth) { return parse<Json>(text, max_depth, SIZE_MAX, {}); }

Expected<OrderedJson> parse_ordered_json(std::string_view text, int max_depth, size_t max_keys, std::string_view without) {
  return parse<OrderedJson>(text, max_depth, max_keys, without);
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
