#include "hub/repository.h"

#include <algorithm>
#include <cctype>
#include <regex>

#include "base/json.h"

namespace shoehorn::hub {
namespace {

constexpr uint64_t kMaxListing = uint64_t{64} << 20;
constexpr size_t kMaxFiles = 100'000;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 44;
constexpr size_t kNamesInError = 12;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// A size in bytes; beyond kMaxFileBytes when it is none.
uint64_t size_in(const Json& json) {
  const auto it = json.find("size");
  return it != json.end() && it->is_number_unsigned() ? it->get<uint64_t>() : kMaxFileBytes + 1;
}

bool at_top(const std::string& path) { return path.find('/') == path.npos; }

bool is_gguf(const std::string& path) { return lower(path).ends_with(".gguf"); }

/// Weights that double the model's in another program's layout.
bool is_doubled(const std::string& path) { return path.starts_with("consolidated") || path.starts_with("adapter_"); }

std::string some(const std::vector<std::string>& paths) {
  std::string out;
  for (size_t i = 0; i < std::min(paths.size(), kNamesInError); ++i) out += (i == 0 ? "" : ", ") + paths[i];
  if (paths.size() > kNamesInError) out += fmt::format(" and {} more", paths.size() - kNamesInError);
  return out.empty() ? "nothing" : out;
}

/// The paths whose name has a type in it, between other characters than letters and digits.
std::vector<std::string> of_type(const std::vector<std::string>& ggufs, const std::string& type) {
  const auto is_apart = [](const std::string& text, size_t at) {
    return at >= text.size() || std::isalnum(static_cast<unsigned char>(text[at])) == 0;
  };
  std::vector<std::string> out;
  const std::string wanted = lower(type);
  for (const std::string& path : ggufs) {
    const std::string name = lower(path.substr(path.rfind('/') + 1));
    for (size_t at = name.find(wanted); at != name.npos; at = name.find(wanted, at + 1)) {
      // Q4_K is not Q4_K_M.
      const size_t end = at + wanted.size();
      const bool longer = end < name.size() && name[end] == '_';
      if (is_apart(name, at - 1) && is_apart(name, end) && !longer) {
        out.push_back(path);
        break;
      }
    }
  }
  return out;
}

/// The name of a split file (gguf-split: NAME-00001-of-00003.gguf) without what tells its parts apart; "" for a whole
/// one.
std::string split_name(const std::string& path) {
  static const std::regex kPart("(.*)-[0-9]{5}(-of-[0-9]{5}\\.gguf)", std::regex::icase);
  std::smatch match;
  return std::regex_match(path, match, kPart) ? match.str(1) + match.str(2) : "";
}

/// A GGUF with all its parts.
Selection whole(const std::string& gguf, const std::vector<std::string>& all) {
  const std::string name = split_name(gguf);
  Selection out{{gguf}, gguf};
  for (const std::string& path : all) {
    if (!name.empty() && path != gguf && split_name(path) == name) out.paths.push_back(path);
  }
  std::sort(out.paths.begin(), out.paths.end());
  out.gguf = out.paths.front();
  return out;
}

Expected<Selection> one_gguf(const std::vector<std::string>& fitting, const std::vector<std::string>& all,
                             const Reference& reference) {
  if (fitting.size() == 1) return whole(fitting.front(), all);
  return fail(ErrorCode::kNotFound, "{}: {} GGUF file{} fit{}; name one as hf:{}:FILE: {}", to_string(reference),
              fitting.empty() ? "no" : "several", fitting.empty() ? "" : "s", fitting.empty() ? "s" : "",
              reference.repository, some(fitting.empty() ? all : fitting));
}

}  // namespace

Expected<Listing> parse_listing(const std::string& body, const std::string& name) {
  auto parsed = parse_json(body);
  if (!parsed) return annotate(std::move(parsed).error(), name + ": the hub's answer");
  const Json& json = *parsed;
  Listing out;
  out.commit = json_or(json, "sha", std::string());
  if (!is_hex(out.commit, 40)) return fail(ErrorCode::kInvalid, "{}: the hub's answer names no commit", name);
  const auto siblings = json.find("siblings");
  if (siblings == json.end() || !siblings->is_array() || siblings->size() > kMaxFiles) {
    return fail(ErrorCode::kInvalid, "{}: the hub's answer has no list of at most {} files", name, kMaxFiles);
  }
  for (const Json& sibling : *siblings) {
    RemoteFile file;
    file.path = json_or(sibling, "rfilename", std::string());
    if (!is_safe_path(file.path))
      return fail(ErrorCode::kInvalid, "{}: the hub names a file \"{}\", which is no path inside it", name, file.path);
    if (!sibling.is_object())
      return fail(ErrorCode::kInvalid, "{}: the hub's list of files holds something else", name);
    file.size = size_in(sibling);
    file.digest = json_or(sibling, "blobId", std::string());
    size_t n_digits = 40;
    if (const auto lfs = sibling.find("lfs"); lfs != sibling.end() && lfs->is_object()) {
      file.kind = Digest::Kind::kSha256;
      file.digest = json_or(*lfs, "sha256", std::string());
      file.size = size_in(*lfs);
      n_digits = 64;
    }
    if (!is_hex(file.digest, n_digits) || file.size > kMaxFileBytes) {
      return fail(ErrorCode::kInvalid, "{}: the hub gives \"{}\" the size {} and the digest \"{}\"", name, file.path,
                  file.size, file.digest);
    }
    out.files.push_back(std::move(file));
  }
  return out;
}

Expected<Listing> list_repository(const Reference& reference, const Endpoint& endpoint, const Patience& patience,
                                  Progress& progress) {
  const std::string name = to_string({reference.repository, reference.revision, ""});
  std::string revision = url_path(reference.revision);
  // A slash in a branch's name is part of it.
  for (size_t at = 0; (at = revision.find('/', at)) != revision.npos;) revision.replace(at, 1, "%2F");
  const std::string url =
      fmt::format("{}/api/models/{}/revision/{}?blobs=true", endpoint.url, reference.repository, revision);
  SHOEHORN_TRY(const Text answer, fetch_text(url, endpoint.token, kMaxListing, patience, progress));
  if (answer.status == 200) return parse_listing(answer.body, name);
  return tl::unexpected(refusal(name, answer.status));
}

Expected<Selection> select_files(const std::vector<std::string>& paths, const Reference& reference, Extent extent) {
  std::vector<std::string> all_ggufs, ggufs, safetensors, model_safetensors, pickles, others;
  for (const std::string& path : paths) {
    if (is_gguf(path)) {
      all_ggufs.push_back(path);
      if (split_name(path).empty() || path.find("-00001-of-") != path.npos) ggufs.push_back(path);
    }
    if (!at_top(path) || is_doubled(path)) continue;
    if (path.ends_with(".safetensors")) {
      safetensors.push_back(path);
      if (path.starts_with("model")) model_safetensors.push_back(path);
    } else if (path.starts_with("pytorch_model") && path.ends_with(".bin")) {
      pickles.push_back(path);
    } else if (path.ends_with(".json") || path.ends_with(".model") || path.ends_with(".txt") ||
               path.ends_with(".jinja") || path.ends_with(".tiktoken")) {
      others.push_back(path);
    }
  }
  if (!reference.file.empty()) {
    if (std::find(paths.begin(), paths.end(), reference.file) != paths.end()) {
      return is_gguf(reference.file) ? whole(reference.file, all_ggufs) : Selection{{reference.file}, ""};
    }
    return one_gguf(of_type(ggufs, reference.file), all_ggufs, reference);
  }
  const bool has_config = std::find(paths.begin(), paths.end(), "config.json") != paths.end();
  if (extent == Extent::kOutline && has_config) {
    std::erase_if(others, [](const std::string& path) { return path.ends_with(".index.json"); });
    return Selection{others, ""};
  }
  const std::vector<std::string>& weights = !model_safetensors.empty() ? model_safetensors
                                            : !safetensors.empty()     ? safetensors
                                                                       : pickles;
  if (weights.empty() && !ggufs.empty()) {
    return one_gguf(ggufs.size() == 1 ? ggufs : of_type(ggufs, "Q4_K_M"), all_ggufs, reference);
  }
  // A pickled model object brings its configuration along.
  const bool configured = has_config || &weights == &pickles;
  if (weights.empty() || !configured) {
    return fail(ErrorCode::kNotFound,
                "{}: neither config.json with weights (*.safetensors, pytorch_model*.bin) nor a GGUF is there, but {}",
                to_string(reference), some(paths));
  }
  Selection out{others, ""};
  out.paths.insert(out.paths.end(), weights.begin(), weights.end());
  std::sort(out.paths.begin(), out.paths.end());
  return out;
}

}  // namespace shoehorn::hub
