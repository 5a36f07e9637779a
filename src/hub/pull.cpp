#include "hub/pull.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>
#include <vector>

#include "base/json.h"
#include "base/memory.h"
#include "hub/cache.h"
#include "hub/repository.h"

namespace shoehorn::hub {
namespace {
namespace fs = std::filesystem;

/// Weights that a checkpoint's index names but a list of paths lacks.
bool lacks_shards(const std::string& folder, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (!path.ends_with(".index.json")) continue;
    const auto index = read_json(folder + "/" + path);
    const auto map = index ? index->find("weight_map") : Json::const_iterator();
    if (!index || map == index->end() || !map->is_object()) return true;
    for (const Json& shard : *map) {
      if (!shard.is_string() || !std::binary_search(paths.begin(), paths.end(), shard.get<std::string>())) return true;
    }
  }
  return false;
}

std::string place_of(const RepositoryCache& cache, const std::string& commit, const Selection& selection) {
  const std::string folder = cache.snapshot(commit);
  return selection.gguf.empty() ? folder : folder + "/" + selection.gguf;
}

/// The model as far as the cache knows it; nothing when files are missing.
std::optional<Pulled> from_cache(const RepositoryCache& cache, const Reference& reference, Extent extent) {
  const auto commit = cache.known_commit(reference.revision);
  if (!commit) return std::nullopt;
  const std::string folder = cache.snapshot(*commit);
  const auto selection = select_files(cache.files(*commit), reference, extent);
  if (!selection || lacks_shards(folder, selection->paths)) return std::nullopt;
  Pulled out{place_of(cache, *commit, *selection), *commit};
  out.asked = false;
  for (const std::string& path : selection->paths) {
    std::error_code error;
    const uint64_t size = fs::file_size(folder + "/" + path, error);
    if (error) return std::nullopt;
    out.bytes += size;
    ++out.n_files;
  }
  return out;
}

/// Held while contents are written, so that two programs (huggingface_hub's, too) do not write the same.
class Lock {
 public:
  Lock(Lock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Lock& operator=(Lock&&) = delete;
  ~Lock() {
    if (fd_ >= 0) ::close(fd_);
  }

  static Expected<Lock> acquire(const std::string& path, Progress& progress) {
    Lock out(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (out.fd_ < 0) return fail(ErrorCode::kIo, "{}: {}", path, std::strerror(errno));
    for (bool said = false; ::flock(out.fd_, LOCK_EX | LOCK_NB) != 0;) {
      // A file system without locks is used without them.
      if (errno != EWOULDBLOCK && errno != EINTR) break;
      if (!std::exchange(said, true)) progress.note("another program is downloading the same; waiting for it");
      if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return out;
  }

 private:
  explicit Lock(int fd) : fd_(fd) {}
  int fd_;
};

Status make_folders(const RepositoryCache& cache) {
  for (const std::string& file : {cache.blob("x"), cache.lock("x")}) {
    std::error_code error;
    const fs::path folder = fs::path(file).parent_path();
    fs::create_directories(folder, error);
    if (error) return fail(ErrorCode::kIo, "{}: {}", folder.string(), error.message());
  }
  return {};
}

bool has_size(const std::string& path, uint64_t size) {
  std::error_code error;
  return fs::file_size(path, error) == size && !error;
}

}  // namespace

Expected<Pulled> pull(const PullOptions& o, Progress& progress) {
  const RepositoryCache cache(o.cache, o.reference.repository);
  const std::string name = to_string(o.reference);
  const auto cached = from_cache(cache, o.reference, o.extent);
  if (cached && (o.endpoint.offline || cached->commit == o.reference.revision)) return *cached;
  if (o.endpoint.offline) {
    return fail(ErrorCode::kNotFound, "{}: not, or not wholly, in {}, and HF_HUB_OFFLINE forbids to ask for it", name,
                o.cache);
  }
  auto listing = list_repository(o.reference, o.endpoint, o.patience, progress);
  if (!listing && listing.error().code == ErrorCode::kIo && cached) {
    progress.note(fmt::format("{}; going on with what was downloaded before", listing.error().message));
    return *cached;
  }
  if (!listing) return tl::unexpected(std::move(listing).error());

  std::vector<std::string> paths;
  for (const RemoteFile& file : listing->files) paths.push_back(file.path);
  SHOEHORN_TRY(const Selection selection, select_files(paths, o.reference, o.extent));
  SHOEHORN_RETURN_IF_ERROR(make_folders(cache));

  Pulled out{place_of(cache, listing->commit, selection), listing->commit};
  const std::string folder = cache.snapshot(listing->commit);
  std::vector<const RemoteFile*> wanted;
  for (const RemoteFile& file : listing->files) {
    if (std::find(selection.paths.begin(), selection.paths.end(), file.path) == selection.paths.end()) continue;
    out.bytes += file.size;
    ++out.n_files;
    wanted.push_back(&file);
  }
  // In one order, so that two programs that want the same never wait for each other.
  std::set<std::string> digests;
  std::vector<Lock> locks;
  for (const RemoteFile* file : wanted) digests.insert(file->digest);
  for (const std::string& digest : digests) {
    SHOEHORN_TRY(auto lock, Lock::acquire(cache.lock(digest), progress));
    locks.push_back(std::move(lock));
  }
  std::vector<Download> downloads;
  uint64_t missing = 0;
  for (const RemoteFile* file : wanted) {
    const bool there =
        has_size(cache.blob(file->digest), file->size) || has_size(folder + "/" + file->path, file->size);
    if (there || digests.erase(file->digest) == 0) continue;
    const std::string partial = cache.incomplete(file->digest);
    std::error_code error;
    const uint64_t has = fs::file_size(partial, error);
    missing += file->size - (error ? 0 : std::min(has, file->size));
    out.fetched += file->size;
    downloads.push_back({fmt::format("hf:{}:{}", o.reference.repository, file->path),
                         fmt::format("{}/{}/resolve/{}/{}", o.endpoint.url, o.reference.repository, listing->commit,
                                     url_path(file->path)),
                         partial, cache.blob(file->digest), file->size, file->kind, file->digest});
  }
  std::error_code error;
  const fs::space_info space = fs::space(cache.folder(), error);
  if (!error && space.available < missing) {
    return fail(ErrorCode::kTooLarge, "{}: {} are missing, {} has {} free; HF_HUB_CACHE names another folder", name,
                format_bytes(missing), o.cache, format_bytes(space.available));
  }
  // Large ones first: at the end there is less to wait for alone.
  std::stable_sort(downloads.begin(), downloads.end(),
                   [](const Download& a, const Download& b) { return a.size > b.size; });
  if (!downloads.empty()) {
    SHOEHORN_RETURN_IF_ERROR(fetch_files(downloads, o.endpoint.token, o.n_parallel, o.patience, progress));
  }
  for (const RemoteFile* file : wanted) {
    if (has_size(cache.blob(file->digest), file->size)) {
      SHOEHORN_RETURN_IF_ERROR(cache.link(listing->commit, file->path, file->digest));
    }
  }
  SHOEHORN_RETURN_IF_ERROR(cache.remember(o.reference.revision, listing->commit));
  return out;
}

}  // namespace shoehorn::hub
