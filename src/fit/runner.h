// Running a recipe: each stage as the command that it is, measured, and gone on with after a kill.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/status.h"
#include "fit/needs.h"
#include "fit/recipe.h"

namespace shoehorn::fit {

struct RunOptions {
  std::string directory;  ///< of the run; made
  std::string program;    ///< path of shoehorn
  bool resume = false;    ///< stages whose output and record are there, of the same options and inputs, are passed over
  bool keep = false;      ///< checkpoints stay when no later stage needs them
  bool quiet = false;     ///< stages say nothing on stderr
  int n_threads = 0;      ///< of each stage; 0: their default
  uint64_t ram = 0;       ///< --ram of the stages that know it; 0: not given
};

/// A file that a run leaves, measured.
struct Result {
  std::string name = {};  ///< of the stage
  std::string path = {};
  double ppl = 0, ppl_err = 0, kl = 0, kl_err = 0, top1 = 0;
  int64_t tokens = 0;  ///< predictions that it was measured on
  bool is_gguf = false;
  uint64_t bytes = 0, parameters = 0;  ///< of its weights' files
  Json bench = {};  ///< of a GGUF that fits in the memory: llama-bench's array of pp512, tg128 and pp512+tg128
};

/// What run_recipe() will take of disk and memory, with every stage asked. Nothing is written. Fails naming the stage
/// that refuses.
Expected<Needs> estimate_recipe(const Recipe& recipe, const RunOptions& options, Progress& progress);

/// Runs `recipe`, whose inputs must all be given, in its folder: OUTPUT of each stage by its name (prune, heal: a
/// folder, others NAME.gguf), records/NAME.json what the stage printed, records/NAME-perplexity.json how far it is from
/// the model, run.log what was run when. Every checkpoint and GGUF is measured on the same chunks of the recipe's eval
/// text. Fails naming the stage: with its exit status, or when a KL divergence is beyond the recipe's; what is done
/// stays, and `resume` goes on in the middle of the stage.
Expected<std::vector<Result>> run_recipe(const Recipe& recipe, const RunOptions& options, Progress& progress);

/// The command line of a stage after the program's name, without what is said to keep it quiet; `paths`: of the inputs
/// and earlier outputs by name, `out`: of its own.
std::vector<std::string> command_of(const Stage& stage, const std::map<std::string, std::string>& paths,
                                    const std::string& out);

}  // namespace shoehorn::fit
