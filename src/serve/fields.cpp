#include "serve/fields.h"

#include <cmath>

namespace shoehorn::serve {

const Json* Fields::find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

Expected<std::optional<double>> Fields::number(const char* key, double least, double most) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return fail(ErrorCode::kInvalid, "{} must be a number", key);
  const double number = value->get<double>();
  if (!(number >= least && number <= most))
    return fail(ErrorCode::kInvalid, "{} is {}, it must be from {} to {}", key, number, least, most);
  return number;
}

Expected<std::optional<int64_t>> Fields::integer(const char* key, int64_t least, int64_t most) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return fail(ErrorCode::kInvalid, "{} must be an integer", key);
  // 2.0 is one, too; what does not fit into 64 bits is out of every range.
  const double number = value->get<double>();
  if (std::trunc(number) != number) return fail(ErrorCode::kInvalid, "{} must be an integer", key);
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)))
    return fail(ErrorCode::kInvalid, "{} is {}, it must be from {} to {}", key, number, least, most);
  return value->is_number_float() ? static_cast<int64_t>(number) : value->get<int64_t>();
}

Expected<std::optional<bool>> Fields::boolean(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return fail(ErrorCode::kInvalid, "{} must be true or false", key);
  return value->get<bool>();
}

Expected<std::optional<std::string>> Fields::text(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return fail(ErrorCode::kInvalid, "{} must be a string", key);
  return value->get<std::string>();
}

Expected<std::vector<std::string>> Fields::texts(const char* key, size_t most) const {
  const Json* value = find(key);
  std::vector<std::string> out;
  if (value == nullptr) return out;
  if (value->is_string()) return std::vector<std::string>{value->get<std::string>()};
  if (!value->is_array() || value->size() > most)
    return fail(ErrorCode::kInvalid, "{} must be a string or a list of at most {}", key, most);
  for (const Json& item : *value) {
    if (!item.is_string()) return fail(ErrorCode::kInvalid, "{} must be a string or a list of strings", key);
    out.push_back(item.get<std::string>());
  }
  return out;
}

}  // namespace shoehorn::serve
