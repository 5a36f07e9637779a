// Where the hub is, and who asks.
#pragma once

#include <string>

namespace shoehorn::hub {

struct Endpoint {
  std::string url = "https://huggingface.co";  ///< without a slash at the end
  std::string token;                           ///< "": nobody in particular
  bool offline = false;                        ///< only what the cache has
};

/// As Hugging Face's own tools have it: HF_ENDPOINT; HF_TOKEN, else the file HF_TOKEN_PATH, else HF_HOME/token, else
/// ~/.cache/huggingface/token; HF_HUB_OFFLINE.
Endpoint endpoint_from_environment();

/// A path as part of a URL: all but unreserved characters and "/" percent-encoded (RFC 3986, 2.3).
std::string url_path(const std::string& path);

}  // namespace shoehorn::hub
