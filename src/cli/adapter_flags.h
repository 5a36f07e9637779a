// LoRA adapters that a model is run with.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/adapter.h"

namespace shoehorn::cli {

struct AdapterFlags {
  std::vector<std::string> paths;
  std::vector<std::pair<std::string, float>> scaled;

  /// --lora, --lora-scaled
  void add_to(CLI::App& app);
  /// In the order of the options, --lora first.
  Expected<engine::Adapters> open(const std::shared_ptr<const engine::Model>& model) const;
};

}  // namespace shoehorn::cli
