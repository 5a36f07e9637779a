// Which file a model is of.
#pragma once

#include "base/json.h"
#include "engine/model.h"

namespace shoehorn::eval {

/// Path, size and time of the model's file or folder: what was computed of it holds as long as this is the same.
Json model_identity(const engine::Model& model);

}  // namespace shoehorn::eval
