// What a client sends as JSON, taken apart with answers that say what is wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace shoehorn::serve {

/// The fields of an object. Absent ones and null are nothing; of another type or out of range is kInvalid, naming the
/// field.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}

  Expected<std::optional<double>> number(const char* key, double least, double most) const;
  Expected<std::optional<int64_t>> integer(const char* key, int64_t least, int64_t most) const;
  Expected<std::optional<bool>> boolean(const char* key) const;
  Expected<std::optional<std::string>> text(const char* key) const;
  /// A text, or a list of at most `most` texts.
  Expected<std::vector<std::string>> texts(const char* key, size_t most) const;
  /// The value, or nullptr where there is none.
  const Json* find(const char* key) const;

 private:
  const Json& object_;
};

}  // namespace shoehorn::serve
