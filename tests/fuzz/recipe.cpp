// A recipe, which must come back from what is written of it.
#include "fit/recipe.h"

#include <cstdlib>

#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_recipe(std::string_view input) {
  const auto recipe = fit::parse_recipe(input, "recipe.toml");
  if (!recipe) return message_of(recipe);
  const std::string written = fit::to_toml(*recipe);
  const auto again = fit::parse_recipe(written, "again.toml");
  if (!again || fit::to_toml(*again) != written) std::abort();
  return "";
}

}  // namespace shoehorn::fuzz
