#include "quant/format.h"

#include <array>

#include "quant/block_format.h"

namespace shoehorn::quant {

std::span<const Format> formats() {
  static const std::array table = {
#define SHOEHORN_FORMAT(name, gguf_id, ns) ns::table_row(Type::name, #name),
#include "quant/formats.inc"
#undef SHOEHORN_FORMAT
  };
  return table;
}

const Format& format(Type type) {
  const Format* found = find_format(static_cast<uint32_t>(type));
  if (found == nullptr) __builtin_unreachable();  // every enumerator has a row
  return *found;
}

const Format* find_format(uint32_t gguf_id) {
  static const auto by_id = [] {
    std::array<const Format*, 64> index{};
    for (const Format& f : formats()) index[static_cast<uint32_t>(f.type)] = &f;
    return index;
  }();
  return gguf_id < by_id.size() ? by_id[gguf_id] : nullptr;
}

const Format* find_format(std::string_view name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  for (const Format& f : formats()) {
    const std::string_view candidate = f.name;
    bool equal = candidate.size() == name.size();
    for (size_t i = 0; equal && i < name.size(); ++i) equal = lower(candidate[i]) == lower(name[i]);
    if (equal) return &f;
  }
  return nullptr;
}

std::string_view foreign_type_name(uint32_t gguf_id) {
  struct Foreign {
    uint32_t gguf_id;
    std::string_view name;
  };
  static constexpr Foreign kForeign[] = {
      {4, "Q4_2 (retired)"},
      {5, "Q4_3 (retired)"},
      {9, "Q8_1"},
      {15, "Q8_K"},
      {24, "I8"},
      {25, "I16"},
      {26, "I32"},
      {27, "I64"},
      {28, "F64"},
      {31, "Q4_0_4_4 (retired)"},
      {32, "Q4_0_4_8 (retired)"},
      {33, "Q4_0_8_8 (retired)"},
      {36, "IQ4_NL_4_4 (retired)"},
      {37, "IQ4_NL_4_8 (retired)"},
      {38, "IQ4_NL_8_8 (retired)"},
      {40, "NVFP4"},
      {41, "Q1_0"},
      {42, "Q2_0"},
  };
  for (const Foreign& f : kForeign) {
    if (f.gguf_id == gguf_id) return f.name;
  }
  return "";
}

}  // namespace shoehorn::quant
