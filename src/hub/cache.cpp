#include "hub/cache.h"

#include <algorithm>
#include <filesystem>

#include "base/digest.h"
#include "base/environment.h"
#include "base/output_file.h"
#include "hub/endpoint.h"

namespace shoehorn::hub {
namespace {
namespace fs = std::filesystem;

constexpr size_t kCommitDigits = 40;

std::string folder_name(std::string repository) {
  const size_t slash = repository.find('/');
  if (slash != repository.npos) repository.replace(slash, 1, "--");
  return "models--" + repository;
}

}  // namespace

Expected<std::string> default_cache() {
  if (const std::string cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return home + "/hub";
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/huggingface/hub";
  if (const std::string home = environment("HOME"); !home.empty()) return home + "/.cache/huggingface/hub";
  return fail(ErrorCode::kNotFound,
              "no place to keep downloads: none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set");
}

RepositoryCache::RepositoryCache(const std::string& cache, const std::string& repository)
    : folder_(cache + "/" + folder_name(repository)), locks_(cache + "/.locks/" + folder_name(repository)) {}

std::optional<std::string> RepositoryCache::known_commit(const std::string& revision) const {
  if (is_hex(revision, kCommitDigits)) return revision;
  const auto text = read_file(folder_ + "/refs/" + revision, 1024);
  if (!text) return std::nullopt;
  const std::string commit = text->substr(0, text->find_first_of(" \r\n"));
  return is_hex(commit, kCommitDigits) ? std::optional(commit) : std::nullopt;
}

Status RepositoryCache::remember(const std::string& revision, const std::string& commit) const {
  if (revision == commit || known_commit(revision) == commit) return {};
  const fs::path path = folder_ + "/refs/" + revision;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", path.parent_path().string(), error.message());
  return write_file(path.string(), commit);
}

std::vector<std::string> RepositoryCache::files(const std::string& commit) const {
  std::vector<std::string> out;
  const fs::path root = snapshot(commit);
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    std::error_code missing;
    if (it->is_regular_file(missing)) out.push_back(it->path().lexically_relative(root).string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

Status RepositoryCache::link(const std::string& commit, const std::string& path, const std::string& etag) const {
  const fs::path place = fs::path(snapshot(commit)) / path, contents = blob(etag);
  std::error_code error;
  fs::create_directories(place.parent_path(), error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", place.parent_path().string(), error.message());
  const fs::path target = contents.lexically_relative(place.parent_path());
  if (fs::is_symlink(place, error) && fs::read_symlink(place, error) == target) return {};
  // Beside it first: another program that reads the snapshot finds the old file or the new one.
  const fs::path beside = place.string() + ".link";
  fs::remove(beside, error);
  fs::create_symlink(target, beside, error);
  if (error) {
    fs::rename(contents, place, error);
  } else {
    fs::rename(beside, place, error);
  }
  if (error) return fail(ErrorCode::kIo, "{}: {}", place.string(), error.message());
  return {};
}

}  // namespace shoehorn::hub
