// A small run as the commands leave it: a checkpoint, GGUFs of it, and records of what was measured.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "convert/gguf_output.h"
#include "report/run.h"

namespace shoehorn::test {

/// Collects what is remarked.
class Notes : public NoProgress {
 public:
  void note(std::string_view text) override { texts.emplace_back(text); }
  bool any_has(const std::string& part) const {
    for (const std::string& text : texts) {
      if (text.find(part) != std::string::npos) return true;
    }
    return false;
  }
  std::vector<std::string> texts;
};

/// A new directory with the checkpoint "tiny" in it.
std::string new_run();
/// Quantizes the run's checkpoint to DIR/NAME, with further metadata.
void add_gguf(const std::string& dir, const std::string& name, const char* type, const convert::Remarks& remarks = {});
void add_json(const std::string& dir, const std::string& name, const Json& json);

/// `shoehorn perplexity --json` with a base, figures that no other record has.
Json perplexity_record(const std::string& model, const std::string& base);
/// One test of `shoehorn bench -o json`.
Json bench_record(const std::string& model, int n_prompt, int n_gen);
/// `shoehorn prune --json`.
Json prune_record(const std::string& in, const std::string& out);
/// `shoehorn rotate --json`, with rotations that were learned.
Json rotate_record(const std::string& in, const std::string& out);
/// `shoehorn heal --json`.
Json heal_record(const std::string& in, const std::string& out);
/// `shoehorn quantize --json`, without its tensors.
Json quantize_record(const std::string& in, const std::string& out, const std::string& type);

/// read_run, which must not fail.
report::Run read(const std::string& dir);

}  // namespace shoehorn::test
