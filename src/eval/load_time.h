// How long a model takes from its file to its first token.
#pragma once

#include <memory>
#include <string>

#include "base/mapped_file.h"
#include "engine/session.h"

namespace shoehorn::eval {

struct LoadTime {
  double open_ms = 0;         ///< header, vocabulary and tensors bound; weights are mapped, not read, or copied
  double first_token_ms = 0;  ///< open_ms, a session and the logits of one token
  double cached = 0;          ///< share of the file that was in the page cache before; 1 where the system does not say
  bool dropped = false;       ///< the page cache was asked to let go of the file

  /// "cold" with at most 5 % of the file in the page cache, "warm" from 95 % on, else "partly cached".
  const char* state() const;
};

struct LoadedModel {
  std::shared_ptr<const engine::Model> model;
  LoadTime time;
};

/// Opens the model, as Model::open does, and computes one token in a session of these options. With `drop_cache` the
/// system is asked before to drop the file from its page cache (posix_fadvise), which it does for pages that nobody has
/// mapped.
Expected<LoadedModel> load_timed(const std::string& path, const engine::SessionOptions& options, bool drop_cache, FileMode mode = FileMode::kMap);

}  // namespace shoehorn::eval
