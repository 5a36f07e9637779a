// An output directory in the making, with the saved state of the work on it: OUT.partial becomes OUT when all is done.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/json.h"
#include "compress/peers.h"
#include "convert/opened_checkpoint.h"

namespace shoehorn::compress {

using NamedTensors = std::map<std::string, at::Tensor>;

/// What a step saves: tensors and what cannot be said with them.
struct Saved {
  NamedTensors tensors;
  Json facts = Json::object();
};

/// A safetensors file, whole or not at all.
Status save_state(const std::string& path, const Saved& saved);
Expected<Saved> load_state(const std::string& path);
/// The same from a file's bytes; `path` is for messages.
Expected<Saved> parse_state(std::span<const std::byte> bytes, const std::string& path);

/// Names, sizes and times of a checkpoint's files: what tells one source from another without reading it all.
Json source_fingerprint(const convert::OpenedCheckpoint& checkpoint);
/// The same of one file; null when `path` is "".
Json file_fingerprint(const std::string& path);

/// What a finished directory says about how it came to be.
inline constexpr const char* kReportFile = "shoehorn.json";

/// With several processes, files are the first one's; what it loads, all get.
class WorkDirectory {
 public:
  /// Fails when OUT is there already. With `resume`, goes on in an OUT.partial whose fingerprint is the same, or begins
  /// when there is none; an OUT that the same work wrote is complete. Without, an OUT.partial is refused: it may hold
  /// days of work.
  static Expected<WorkDirectory> open(const std::string& out, const Json& fingerprint, bool resume, const Peers& peers);

  /// The same for a file OUT that is written whole when the states are complete: OUT.state is a directory beside it,
  /// and an OUT that exists will be replaced.
  static Expected<WorkDirectory> open_for_file(const std::string& out, const Json& fingerprint, bool resume,
                                               const Peers& peers);

  /// Saved states by name ("layer-00004"); nothing when there is no such state.
  Expected<std::optional<Saved>> load(const std::string& name) const;
  Status save(const std::string& name, const Saved& saved) const;
  void forget(const std::string& name) const;

  /// The file of a saved state.
  std::string state_path(const std::string& name) const;

  /// Where the output's files are written; for other processes than the first a place for temporary files.
  const std::string& path() const { return partial_; }
  /// The report of earlier work that had come to its end: OUT is whole, and nothing is left to do.
  const std::optional<Json>& complete() const { return complete_; }

  /// Writes the report, gives the directory its name and removes the states.
  Status finish(Json report);
  /// Removes OUT.state: the file OUT is there.
  void discard() const;

 private:
  WorkDirectory(const std::string& out, const Peers& peers);
  Status open_states(const Json& fingerprint, bool resume);
  Status open_files(const Json& fingerprint, bool resume);
  const Peers* peers_ = nullptr;
  std::string out_, partial_, states_;
  std::string run_;  // the fingerprint's hash
  std::optional<Json> complete_;
};

}  // namespace shoehorn::compress
