// The folder in which Hugging Face's own tools keep what they download, so that one copy serves all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "hub/reference.h"

namespace shoehorn::hub {

/// HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
Expected<std::string> default_cache();

/// One repository's part of a cache (huggingface_hub, "Understand caching"):
///
///     models--OWNER--NAME/refs/REVISION          the commit that a branch or tag had last time
///                         blobs/ETAG             contents, by digest; ETAG.incomplete while they come
///                         snapshots/COMMIT/PATH  links to contents
///     .locks/models--OWNER--NAME/ETAG.lock       held while one program writes
class RepositoryCache {
 public:
  RepositoryCache(const std::string& cache, const std::string& repository);

  const std::string& folder() const { return folder_; }
  std::string snapshot(const std::string& commit) const { return folder_ + "/snapshots/" + commit; }
  std::string blob(const std::string& etag) const { return folder_ + "/blobs/" + etag; }
  std::string incomplete(const std::string& etag) const { return blob(etag) + ".incomplete"; }
  std::string lock(const std::string& etag) const { return locks_ + "/" + etag + ".lock"; }

  /// The commit of a revision as it was known last: the revision itself when it is a commit, nothing when it never was
  /// asked for.
  std::optional<std::string> known_commit(const std::string& revision) const;
  Status remember(const std::string& revision, const std::string& commit) const;

  /// Paths of a snapshot's files whose contents are there, sorted.
  std::vector<std::string> files(const std::string& commit) const;
  /// Puts contents that are there under their path in a snapshot. Where the file system has no links, the contents
  /// move.
  Status link(const std::string& commit, const std::string& path, const std::string& etag) const;

 private:
  std::string folder_, locks_;
};

}  // namespace shoehorn::hub
