// The commands' --json output, recognized by the keys it has.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/run.h"

namespace shoehorn::report {

/// Finds or adds the variant that a record means by a path. Paths are compared as text only: a record may come from
/// another machine.
class VariantNames {
 public:
  /// `directory`: where Run::variants' relative paths begin. The run must outlive this, and have all that is in the
  /// directory.
  VariantNames(Run& run, const std::string& directory);

  /// kNone for an empty path, and for new models beyond kMaxOutside.
  VariantId find_or_add(const std::string& path);

  static constexpr size_t kMaxOutside = 1000;

 private:
  Run* run_;
  std::map<std::string, VariantId> by_path_;                    // absolute, or as a record has it
  std::map<std::string, std::vector<VariantId>> by_file_name_;  // of those inside
  size_t n_outside_ = 0;
};

/// Most records that are taken.
inline constexpr size_t kMaxRecords = 5'000;

/// Adds what a value of the file `file` (a name for messages) says to the run. Returns what it is ("perplexity of
/// Q4_K_M.gguf"), "" when it is nothing that is known, or fails when it has the keys of a command's output but values
/// that cannot be such.
Expected<std::string> add_record(const Json& json, const std::string& file, VariantNames& names, Run& run);

/// Adds what shoehorn.json in the checkpoint `out` says, unless a record says it already.
Status add_checkpoint_record(const Json& json, const std::string& file, VariantId out, Run& run);

}  // namespace shoehorn::report
