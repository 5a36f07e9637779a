// What configurations and GGUF files say, key by key, and the keys that an architecture has beyond those that all have.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "base/json.h"
#include "io/gguf.h"
#include "models/model.h"

namespace shoehorn::models {

// A configuration's keys. A value that is missing or null is `fallback`; one of another kind is refused by its name.
Expected<uint32_t> config_uint(const Json& config, const char* key, uint32_t fallback);
Expected<float> config_float(const Json& config, const char* key, float fallback);

/// The keys "<architecture>.<key>" of one file, with errors that name them.
class GgufKeys {
 public:
  GgufKeys(const io::GgufMetadata& metadata, std::string prefix) : metadata_(metadata), prefix_(std::move(prefix)) {}

  std::string name(const char* key) const { return prefix_ + "." + key; }

  Expected<uint32_t> uint(const char* key) const {
    const auto value = metadata_.get_uint(name(key));
    if (!value || *value > INT32_MAX)
      return fail(ErrorCode::kInvalid, "key {} is missing or no whole number", name(key));
    return static_cast<uint32_t>(*value);
  }
  Expected<uint32_t> uint_or(const char* key, uint32_t fallback) const {
    if (!metadata_.contains(name(key))) return fallback;
    return uint(key);
  }
  float float_or(const char* key, float fallback) const {
    return static_cast<float>(metadata_.get_float(name(key)).value_or(fallback));
  }
  bool bool_or(const char* key, bool fallback) const { return metadata_.get_bool(name(key)).value_or(fallback); }
  std::string string_or(const char* key, const char* fallback) const {
    const std::string* value = metadata_.get_string(name(key));
    return value == nullptr ? fallback : *value;
  }
  bool has(const char* key) const { return metadata_.contains(name(key)); }

  /// A number for all layers, or an array of n_layer numbers.
  Expected<std::vector<uint32_t>> per_layer(const char* key, uint32_t n_layer) const {
    if (const auto value = metadata_.get_uint(name(key)); value && *value <= INT32_MAX) {
      return std::vector<uint32_t>(n_layer, static_cast<uint32_t>(*value));
    }
    const auto values = metadata_.get_ints(name(key));
    if (!values) return fail(ErrorCode::kInvalid, "key {} is missing or holds no whole numbers", name(key));
    if (values->size() != n_layer) {
      return fail(ErrorCode::kInvalid, "key {} has {} entries, the model has {} layers", name(key), values->size(),
                  n_layer);
    }
    std::vector<uint32_t> out;
    for (const int64_t value : *values) {
      if (value < 0 || value > INT32_MAX) return fail(ErrorCode::kInvalid, "key {} holds {}", name(key), value);
      out.push_back(static_cast<uint32_t>(value));
    }
    return out;
  }

 private:
  const io::GgufMetadata& metadata_;
  std::string prefix_;
};

/// Sets the key "<architecture>.<key>".
using SetGgufKey = FunctionRef<void(const char* key, io::GgufValue value)>;

/// How an architecture's own keys become Hparams and back. They are read after those that all have.
struct OwnKeys {
  /// Fails where other readers of the GGUF that would be written compute something else.
  Status (*from_config)(const Json& config, Hparams& hparams);
  Status (*from_gguf)(const GgufKeys& keys, Hparams& hparams);
  void (*to_gguf)(const Hparams& hparams, SetGgufKey set);
  /// The configuration with the keys that all others have, from those that this architecture has in their place; nullptr: it has them.
  Json (*standard)(Json config) = nullptr;
  /// Back: the architecture's own keys of what may have been changed, and no others.
  void (*own)(const Hparams& hparams, Json& config) = nullptr;
};

}  // namespace shoehorn::models
