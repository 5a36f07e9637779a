// Files over HTTP, several at once, each until it is whole and its digest right.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/digest.h"
#include "base/progress.h"
#include "base/status.h"

namespace shoehorn::hub {

/// How often and how patiently a server is asked.
struct Patience {
  int attempts = 6;          ///< in a row that bring nothing
  double first_pause_s = 1;  ///< doubled every time, up to kLongestPause; a server's Retry-After goes before it
  double stall_s = 30;       ///< without a byte: the connection is given up
};

struct Download {
  std::string name;  ///< for messages
  std::string url;
  std::string partial;  ///< path of what has come so far; a file that is there is gone on with
  std::string path;     ///< its name when it is whole
  uint64_t size = 0;
  Digest::Kind kind = Digest::Kind::kSha256;
  std::string digest;  ///< hexadecimal
};

/// Fetches all, `n_parallel` at a time, and reports bytes to `progress` (what partial files had already counts). The
/// token is sent to the URL's host alone, not to where it redirects. Dropped connections, 408, 429 and 5xx are tried
/// again; contents with another digest are fetched anew once. Fails with kIo, kNotFound or kInvalid (other lengths or
/// contents than announced) naming the file, kCancelled soon after progress says so; what has come stays in the partial
/// files.
Status fetch_files(std::span<const Download> downloads, const std::string& token, int n_parallel,
                   const Patience& patience, Progress& progress);

struct Text {
  long status = 0;  ///< HTTP
  std::string body;
};

/// What a status other than 200 says to who asked for `name`, and what to do about it.
Error refusal(const std::string& name, long status);

/// Fetches a text of at most max_bytes, trying again as above. An answer that is not worth another try is returned with
/// its status; fails with kIo when there was none, kTooLarge, kCancelled.
Expected<Text> fetch_text(const std::string& url, const std::string& token, uint64_t max_bytes,
                          const Patience& patience, Progress& progress);

}  // namespace shoehorn::hub
