// Recipes: TOML files with a table of options for each command.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::cli {

/// arguments: a command line without the program's name, the command first. With "--recipe FILE" in it, options of FILE's table
/// [command] are added where the command line does not give them: key = value becomes --key value, true --key, a list is joined by
/// commas. Fails naming file and line or key when it cannot be read.
Expected<std::vector<std::string>> with_recipe(std::vector<std::string> arguments);

}  // namespace shoehorn::cli
