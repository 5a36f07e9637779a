// The README's table of architectures is what the tables of this program say.
#include <gtest/gtest.h>

#include "models/model.h"
#include "support/support.h"

namespace shoehorn::models {
namespace {

std::string names_of(const Architecture& architecture) {
  std::string out;
  for (const std::string_view name : architecture.hf_architectures) out += fmt::format("{}`{}`", out.empty() ? "" : ", ", name);
  return out;
}

std::string row(const Architecture& a) {
  const char* prune = a.jagged_as == nullptr ? "all layers alike" : has_experts(a) ? "each layer for itself, with experts alike" : "each layer for itself";
  const char* rotate = can_rotate_residual(a) ? "R1, R2, R4" : can_rotate(a) ? "R2, R4" : "no";
  return fmt::format("| `{}` | {} | yes | yes | {} | yes | {} | yes |\n", a.name, names_of(a), prune, rotate);
}

TEST(SupportTable, OfTheReadmeIsThatOfTheTables) {
  std::string expected =
      "| GGUF | checkpoint | convert | run | prune | heal | rotate | quantize |\n|---|---|---|---|---|---|---|---|\n";
  for (const Architecture* architecture : architectures()) expected += row(*architecture);
  const std::string readme = test::read_text(test::source_dir() + "/README.md");
  EXPECT_NE(readme.find("\n" + expected + "\n"), std::string::npos) << "README.md should have:\n" << expected;
}

}  // namespace
}  // namespace shoehorn::models
