// What a user calls a model: a path, or hf:owner/name[@revision][:file] of the hub.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/status.h"
#include "hub/pull.h"

namespace shoehorn::cli {

/// Adds an option that names a model. A reference to the hub is replaced by a path before the command's work begins.
/// `outline_only`: where it is true by then, weights are left on the hub.
CLI::Option* add_model_option(CLI::App& app, const std::string& names, std::string& model, const std::string& help,
                              const bool* outline_only = nullptr);

/// Fetches what the options of the parsed command name on the hub.
Status fetch_models();

/// Where the command reads models: takes up how I2_S lies in them, and reads the key of sealed ones when one was named; before the work, which may
/// give up the right to.
Status apply_model_options(const CLI::App& command);

/// Brings a model of the hub here, as the environment says (HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE,
/// HF_HUB_OFFLINE).
Expected<hub::Pulled> pull_model(const hub::Reference& reference, const std::string& cache, int n_parallel,
                                 hub::Extent extent = hub::Extent::kWhole);

}  // namespace shoehorn::cli
