// A way from a checkpoint to files that run: stages, one after another.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace shoehorn::fit {

/// A command of this program and its options. Values may be "@NAME": the output of the stage of that name, or one of
/// the recipe's inputs
/// (@model, @calib, @data, @eval).
struct Stage {
  std::string command = {};  ///< prune, heal, convert, imatrix or quantize
  std::string name = {};  ///< of the output in the run's folder; unique
  std::string in = {};  ///< a stage's name or "model"; not given: the last checkpoint
  std::string type = {};  ///< quantize: the mix
  double max_kl = 0;    ///< KL divergence from the model to the output beyond which the run stops; 0: any
  std::vector<std::pair<std::string, std::string>> options = {};  ///< without the dashes; "true": a flag

  /// prune, heal and rotate write a checkpoint, convert and quantize a GGUF, imatrix what quantize reads.
  bool writes_checkpoint() const { return command == "prune" || command == "heal" || command == "rotate"; }
  bool writes_gguf() const { return command == "convert" || command == "quantize"; }
  /// As its model, or by an option.
  bool reads(std::string_view output) const;
  /// The option's value; "" when it is not given.
  std::string_view option(std::string_view key) const;
};

struct Recipe {
  std::string model, calib, data, eval;  ///< paths, or hf:OWNER/NAME for the model; "": to be given
  int eval_chunks = 20;                  ///< of 512 tokens, after each stage
  std::vector<Stage> stages;

  /// The output of stage `made` is a checkpoint that goes when stage `done` is: none after that reads it. What the last
  /// stage makes stays.
  bool drops(size_t made, size_t done) const;
};

/// Reads a recipe (TOML; docs/fit.md). Fails with kInvalid and the line, stage or key: unknown commands and keys, names
/// that are used twice or before they are made, stages that take what they cannot.
Expected<Recipe> parse_recipe(std::string_view text, const std::string& source);

/// The same as a file has it.
std::string to_toml(const Recipe& recipe);

}  // namespace shoehorn::fit
