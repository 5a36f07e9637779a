// The recipe that makes what a plan recommends.
#pragma once

#include "fit/plan.h"
#include "fit/recipe.h"

namespace shoehorn::fit {

/// The stages of a choice; inputs are the caller's to give. The file is named by the GGUF naming convention.
Recipe recipe_of(const ModelFacts& model, const Choice& choice);

}  // namespace shoehorn::fit
