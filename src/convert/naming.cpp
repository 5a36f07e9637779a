#include "convert/naming.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <vector>

namespace shoehorn::convert {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == '-' || c == ' ') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  std::erase(parts, "");
  return parts;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) || c == '.'; });
}

/// "8B", "0.5b", "135M", "8x7B".
bool is_size(const std::string& part) {
  if (part.size() < 2) return false;
  const char unit = static_cast<char>(std::toupper(static_cast<unsigned char>(part.back())));
  if (unit != 'B' && unit != 'M' && unit != 'K' && unit != 'T') return false;
  std::string number = part.substr(0, part.size() - 1);
  std::replace(number.begin(), number.end(), 'x', '.');
  return all_digits(number);
}

/// "v0.3", "v2".
bool is_version(const std::string& part) {
  return part.size() >= 2 && (part[0] == 'v' || part[0] == 'V') && all_digits(std::string_view(part).substr(1));
}

bool is_finetune(const std::string& part) {
  constexpr std::array kWords = {"instruct", "chat", "it", "base", "code", "coder", "reasoning", "thinking"};
  const std::string word = lower(part);
  return std::find(kWords.begin(), kWords.end(), word) != kWords.end();
}

std::string join(const std::vector<std::string>& parts, const char* separator) { return fmt::format("{}", fmt::join(parts, separator)); }

}  // namespace

std::string size_label(uint64_t n) {
  constexpr std::pair<double, char> kUnits[] = {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'K'}};
  for (const auto& [unit, letter] : kUnits) {
    const double value = static_cast<double>(n) / unit;
    if (value >= 1) return value >= 10 ? fmt::format("{:.0f}{}", value, letter) : fmt::format("{:.1f}{}", value, letter);
  }
  return fmt::format("{}", n);
}

ModelName parse_model_name(const std::string& directory, uint64_t n_parameters) {
  std::error_code ignored;
  auto path = std::filesystem::absolute(directory, ignored).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  ModelName out;
  out.size_label = size_label(n_parameters);
  const std::vector<std::string> parts = split(path.filename().string());
  std::vector<std::string> base, fine;
  bool past_base = false;
  for (const std::string& part : parts) {
    if (is_size(part) && !base.empty()) {
      past_base = true;
    } else if (is_version(part) && !base.empty()) {
      past_base = true;
      out.version = part;
    } else if (is_finetune(part) && !base.empty()) {
      past_base = true;
      fine.push_back(part);
    } else {
      (past_base ? fine : base).push_back(part);
    }
  }
  out.name = join(parts, " ");
  out.basename = join(base, "-");
  out.finetune = join(fine, "-");
  return out;
}

std::string file_name(const ModelName& name, const std::string& encoding) {
  std::vector<std::string> parts = {name.basename, name.size_label, name.finetune, name.version, encoding};
  std::erase(parts, "");
  std::string out;
  for (const char c : join(parts, "-")) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
    out += plain ? c : '-';
  }
  out.erase(0, std::min(out.find_first_not_of(".-"), out.size()));
  return out + ".gguf";
}

void write_general_names(const ModelName& name, io::GgufMetadata& metadata) {
  metadata.set("general.type", std::string("model"));
  metadata.set("general.name", name.name);
  if (!name.version.empty()) metadata.set("general.version", name.version);
  if (!name.finetune.empty()) metadata.set("general.finetune", name.finetune);
  if (!name.basename.empty()) metadata.set("general.basename", name.basename);
  metadata.set("general.size_label", name.size_label);
}

}  // namespace shoehorn::convert
