// Bringing a model of the hub onto this machine.
#pragma once

#include <string>

#include "base/progress.h"
#include "base/status.h"
#include "hub/endpoint.h"
#include "hub/repository.h"
#include "hub/reference.h"
#include "hub/transfer.h"

namespace shoehorn::hub {

struct PullOptions {
  Reference reference;
  Endpoint endpoint;
  std::string cache;   ///< folder of downloads (default_cache())
  Extent extent = Extent::kWhole;
  int n_parallel = 4;  ///< files at once
  Patience patience;
};

struct Pulled {
  std::string path;  ///< the folder of the checkpoint, or the GGUF
  std::string commit;
  uint64_t bytes = 0;    ///< of all files
  uint64_t fetched = 0;  ///< of those that had to be fetched
  int n_files = 0;
  bool asked = true;  ///< the hub; false: the cache alone was looked at
};

/// Makes all files of a model lie in the cache and returns where. What is there is not fetched again; a commit whose
/// files are all there is not asked for, and when the hub cannot be reached, or is not to be, a revision's last known
/// commit does. Fails as list_repository and fetch_files do, kTooLarge and the numbers when the disk has less room.
Expected<Pulled> pull(const PullOptions& options, Progress& progress);

}  // namespace shoehorn::hub
