// Opening what a user calls a model, to run it.
#pragma once

#include <memory>
#include <string>

#include "base/mapped_file.h"
#include "base/status.h"
#include "engine/model.h"

namespace shoehorn::cli {

/// A GGUF file, or a checkpoint's directory, whose weights are used where they lie. What the checkpoint's reader remarks is not said.
Expected<std::shared_ptr<const engine::Model>> open_model(const std::string& path, FileMode mode = FileMode::kMap);

}  // namespace shoehorn::cli
