#include "support/fake_hub.h"

#include "base/digest.h"
#include "base/json.h"
#include "hub/endpoint.h"

namespace shoehorn::hub {

FakeHub::FakeHub() : server_([this](const HttpRequest& request) { return answer(request); }) {}

void FakeHub::add(const std::string& path, const std::string& contents, bool large) {
  Digest digest(large ? Digest::Kind::kSha256 : Digest::Kind::kGitBlob, contents.size());
  digest.add(std::as_bytes(std::span(contents)));
  files_[path] = {contents, digest.hex(), large};
}

int FakeHub::asked_for(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  const auto it = n_asked_.find(path);
  return it == n_asked_.end() ? 0 : it->second;
}

HttpAnswer FakeHub::listing() const {
  Json siblings = Json::array();
  for (const auto& [path, file] : files_) {
    Json entry = {{"rfilename", path}, {"size", file.contents.size()}};
    // Of large files git's id is that of a pointer.
    entry["blobId"] = file.large ? std::string(40, 'a') : file.digest;
    if (file.large) entry["lfs"] = {{"sha256", file.digest}, {"size", file.contents.size()}, {"pointerSize", 130}};
    siblings.push_back(entry);
  }
  return {200, {}, Json({{"id", kRepository}, {"sha", kCommit}, {"siblings", siblings}}).dump(), {}, {}};
}

HttpAnswer FakeHub::answer(const HttpRequest& request) {
  const auto count = [&](const std::string& what) {
    const std::lock_guard lock(mutex_);
    return n_asked_[what]++;
  };
  const std::string api = std::string("/api/models/") + kRepository + "/revision/";
  if (request.path.starts_with(api)) {
    HttpAnswer out = listing();
    const int n = count("listing");
    if (listing_fault_) listing_fault_(request, n, out);
    return out;
  }
  const std::string resolve = std::string("/") + kRepository + "/resolve/" + kCommit + "/";
  for (const auto& [path, file] : files_) {
    if (request.path != resolve + url_path(path)) continue;
    HttpAnswer out{200, {}, file.contents, {}, {}};
    if (const auto range = request.headers.find("range"); range != request.headers.end()) {
      const size_t first = std::stoull(range->second.substr(std::string("bytes=").size()));
      if (first >= file.contents.size()) return {416, {}, "", {}, {}};
      out.status = 206;
      out.body = file.contents.substr(first);
      out.headers["Content-Range"] = "bytes " + std::to_string(first) + "-" + std::to_string(file.contents.size() - 1) +
                                     "/" + std::to_string(file.contents.size());
    }
    const int n = count(path);
    if (const auto fault = faults_.find(path); fault != faults_.end()) fault->second(request, n, out);
    return out;
  }
  return {404, {}, "Entry not found", {}, {}};
}

}  // namespace shoehorn::hub
