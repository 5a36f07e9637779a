// What a repository of the hub holds, and what of it makes a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/progress.h"
#include "base/status.h"
#include "hub/endpoint.h"
#include "hub/reference.h"
#include "hub/transfer.h"

namespace shoehorn::hub {

struct RemoteFile {
  std::string path;  ///< is_safe_path
  uint64_t size = 0;
  Digest::Kind kind = Digest::Kind::kGitBlob;
  std::string digest;
};

struct Listing {
  std::string commit;  ///< 40 hexadecimal digits
  std::vector<RemoteFile> files;
};

/// Asks the hub what a revision holds (GET /api/models/REPOSITORY/revision/REVISION?blobs=true). Fails with kNotFound
/// when there is no such thing or it is hidden from who asks, kIo when the hub cannot be reached, kInvalid for an
/// answer that is none: unsafe paths, no digests.
Expected<Listing> list_repository(const Reference& reference, const Endpoint& endpoint, const Patience& patience,
                                  Progress& progress);

/// Reads such an answer.
Expected<Listing> parse_listing(const std::string& body, const std::string& name);

struct Selection {
  std::vector<std::string> paths;
  std::string gguf;  ///< the file that is the model, the first part of a split one; "": the folder is
};

/// How much of a model.
enum class Extent {
  kWhole,
  kOutline,  ///< of a checkpoint only what describes it: no weights
};

/// Of all the paths in a repository those that a model takes: the file that the reference names; else config.json,
/// tokenizer and the weights in one format (safetensors before pytorch_model.bin, none that other programs' layouts
/// double); else a GGUF, Q4_K_M where there are several. Fails with kNotFound and what there is.
Expected<Selection> select_files(const std::vector<std::string>& paths, const Reference& reference,
                                 Extent extent = Extent::kWhole);

}  // namespace shoehorn::hub
