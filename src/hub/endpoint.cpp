#include "hub/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include "base/environment.h"
#include "base/output_file.h"

namespace shoehorn::hub {
namespace {

std::string trimmed(std::string text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && is_space(text.back())) text.pop_back();
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), is_space));
  return text;
}

std::string token() {
  if (std::string value = trimmed(environment("HF_TOKEN")); !value.empty()) return value;
  std::string path = environment("HF_TOKEN_PATH");
  if (path.empty() && !environment("HF_HOME").empty()) path = environment("HF_HOME") + "/token";
  if (path.empty() && !environment("HOME").empty()) path = environment("HOME") + "/.cache/huggingface/token";
  const auto text = path.empty() ? std::string() : read_file(path, 4096).value_or("");
  return trimmed(text);
}

}  // namespace

Endpoint endpoint_from_environment() {
  Endpoint out;
  if (const std::string url = trimmed(environment("HF_ENDPOINT")); !url.empty()) out.url = url;
  while (out.url.ends_with('/')) out.url.pop_back();
  out.token = token();
  std::string offline = environment("HF_HUB_OFFLINE");
  std::transform(offline.begin(), offline.end(), offline.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  out.offline = offline == "1" || offline == "ON" || offline == "YES" || offline == "TRUE";
  return out;
}

std::string url_path(const std::string& path) {
  std::string out;
  for (const char c : path) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 ||
        std::string_view("-._~/").find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

}  // namespace shoehorn::hub
