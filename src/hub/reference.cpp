#include "hub/reference.h"

#include <algorithm>

namespace shoehorn::hub {
namespace {

constexpr std::string_view kPrefix = "hf:";
constexpr size_t kMaxLength = 1024;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/// A part of a repository's id (huggingface_hub's validate_repo_id): no "--" and no "..", for they stand for "/" in the
/// cache.
bool is_name(std::string_view part) {
  return !part.empty() && part.size() <= 96 && std::all_of(part.begin(), part.end(), is_name_character) &&
         part.find("--") == part.npos && part.find("..") == part.npos && part.front() != '-' && part.front() != '.' &&
         part.back() != '-' && part.back() != '.';
}

bool is_repository(std::string_view id) {
  const size_t slash = id.find('/');
  if (slash == id.npos) return is_name(id);
  return is_name(id.substr(0, slash)) && is_name(id.substr(slash + 1));
}

}  // namespace

bool is_reference(std::string_view text) { return text.starts_with(kPrefix); }

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxLength) return false;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
  }
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

Expected<Reference> parse_reference(std::string_view text) {
  const std::string_view all = text;
  if (is_reference(text)) text.remove_prefix(kPrefix.size());
  Reference out;
  if (const size_t colon = text.find(':'); colon != text.npos) {
    out.file = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (!is_safe_path(out.file))
      return fail(ErrorCode::kInvalid, "{}: after \":\" a file of the repository or a type is expected", all);
  }
  if (const size_t at = text.find('@'); at != text.npos) {
    out.revision = text.substr(at + 1);
    text = text.substr(0, at);
    if (!is_safe_path(out.revision))
      return fail(ErrorCode::kInvalid, "{}: after \"@\" a branch, tag or commit is expected", all);
  }
  if (!is_repository(text)) {
    return fail(ErrorCode::kInvalid,
                "{}: a model of the hub is hf:OWNER/NAME[@REVISION][:FILE], its parts of letters, digits, \"-\", \"_\" "
                "and \".\"",
                all);
  }
  out.repository = text;
  return out;
}

std::string to_string(const Reference& reference) {
  std::string out = "hf:" + reference.repository;
  if (reference.revision != "main") out += "@" + reference.revision;
  if (!reference.file.empty()) out += ":" + reference.file;
  return out;
}

}  // namespace shoehorn::hub
