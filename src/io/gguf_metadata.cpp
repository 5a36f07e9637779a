#include <limits>
#include <type_traits>
#include <utility>

#include "io/gguf.h"

namespace shoehorn::io {
namespace {

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

}  // namespace

void GgufMetadata::set(std::string key, GgufValue value) {
  const auto [it, inserted] = index_.try_emplace(key, entries_.size());
  if (inserted) {
    entries_.emplace_back(std::move(key), std::move(value));
  } else {
    entries_[it->second].second = std::move(value);
  }
}

void GgufMetadata::erase(std::string_view key) {
  const auto it = index_.find(key);
  if (it == index_.end()) return;
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(it->second));
  index_.clear();
  for (size_t i = 0; i < entries_.size(); ++i) index_[entries_[i].first] = i;
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

std::optional<uint64_t> GgufMetadata::get_uint(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  return std::visit(
      [](const auto& v) -> std::optional<uint64_t> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsInteger<T>) {
          if (std::in_range<uint64_t>(v)) return static_cast<uint64_t>(v);
        }
        return std::nullopt;
      },
      *value);
}

std::optional<int64_t> GgufMetadata::get_int(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  return std::visit(
      [](const auto& v) -> std::optional<int64_t> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsInteger<T>) {
          if (std::in_range<int64_t>(v)) return static_cast<int64_t>(v);
        }
        return std::nullopt;
      },
      *value);
}

std::optional<double> GgufMetadata::get_float(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* f = std::get_if<float>(value)) return *f;
  if (const auto* d = std::get_if<double>(value)) return *d;
  return std::nullopt;
}

std::optional<bool> GgufMetadata::get_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* b = std::get_if<bool>(value)) return *b;
  return std::nullopt;
}

const std::string* GgufMetadata::get_string(std::string_view key) const {
  const GgufValue* value = find(key);
  return value == nullptr ? nullptr : std::get_if<std::string>(value);
}

const std::vector<std::string>* GgufMetadata::get_strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<GgufArray>(value);
  return array == nullptr ? nullptr : std::get_if<std::vector<std::string>>(array);
}

std::optional<std::vector<int64_t>> GgufMetadata::get_ints(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) return std::nullopt;
  return std::visit(
      [](const auto& elements) -> std::optional<std::vector<int64_t>> {
        using T = typename std::decay_t<decltype(elements)>::value_type;
        if constexpr (kIsInteger<T>) {
          std::vector<int64_t> out;
          out.reserve(elements.size());
          for (const T v : elements) {
            if (!std::in_range<int64_t>(v)) return std::nullopt;
            out.push_back(static_cast<int64_t>(v));
          }
          return out;
        }
        return std::nullopt;
      },
      *array);
}

std::optional<std::vector<float>> GgufMetadata::get_floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) return std::nullopt;
  if (const auto* floats = std::get_if<std::vector<float>>(array)) return *floats;
  return std::nullopt;
}

}  // namespace shoehorn::io
