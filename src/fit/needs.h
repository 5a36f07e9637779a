// What a recipe will take of disk and memory, known before it begins.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "fit/plan.h"
#include "fit/recipe.h"

namespace shoehorn::fit {

struct StageNeed {
  std::string name;
  uint64_t memory_bytes = 0;
  uint64_t output_bytes = 0;   ///< what it writes; to 0.1 % where widths are not searched
  uint64_t working_bytes = 0;  ///< of disk beside that while it runs
  uint64_t disk_bytes = 0;     ///< of the whole run while it runs, at most
  double seconds = 0;          ///< its products' time; 0: little, or not known
};

struct Needs {
  std::vector<StageNeed> stages;
  uint64_t disk_bytes = 0;  ///< the most that the run takes at any time
  uint64_t left_bytes = 0;  ///< what it leaves
  uint64_t memory_bytes = 0;
};

/// Fails with kTooLarge and the numbers when `directory`, which need not be there, has less room than that; what lies
/// in it already counts.
Status check_disk(const Needs& needs, const std::string& directory);

/// A stage's own estimate (--estimate) with the recipe's model in place of checkpoints that are not there yet: an upper
/// bound, as stages only make models smaller.
using AskStage = std::function<Expected<Json>(const Stage& stage)>;

/// Follows the model's dimensions through the stages. `other_bytes`: of disk, beside what stages write; `keep`:
/// checkpoints stay. Fails naming the stage as its command does.
Expected<Needs> needs_of(const Recipe& recipe, const ModelFacts& model, uint64_t other_bytes, bool keep,
                         const AskStage& ask);

}  // namespace shoehorn::fit
