#include "fit/recipe.h"

#include <filesystem>

#include "support/support.h"

namespace shoehorn::fit {
namespace {

constexpr const char* kGood = R"(
model = "Llama"
eval_chunks = 7

[[stage]]
command = "prune"
method = "obs"
layers = "4-27"
ratio = 0.25
calib = "@calib"
max_kl = 0.5

[[stage]]
command = "heal"
teacher = "@model"
data = "@data"
targets = ["q_proj", "v_proj"]

[[stage]]
command = "imatrix"
file = "@calib"
in = "heal"

[[stage]]
command = "quantize"
type = "Q4_K_M"
imatrix = "@imatrix"
no-check = true
resumable = false
)";

TEST(Recipe, Stages) {
  ASSERT_EXPECTED(const Recipe recipe, parse_recipe(kGood, "r.toml"));
  ASSERT_EQ(recipe.stages.size(), 4u);
  EXPECT_EQ(recipe.eval_chunks, 7);
  EXPECT_EQ(recipe.stages[0].name, "prune");
  EXPECT_EQ(recipe.stages[0].in, "model");
  EXPECT_DOUBLE_EQ(recipe.stages[0].max_kl, 0.5);
  EXPECT_EQ(recipe.stages[1].in, "prune");
  EXPECT_EQ(recipe.stages[3].in, "heal");  // the last checkpoint
  EXPECT_EQ(recipe.stages[3].name, "Q4_K_M");
  ASSERT_EXPECTED(const Recipe again, parse_recipe(to_toml(recipe), "again"));
  EXPECT_EQ(to_toml(again), to_toml(recipe));
  const auto& options = recipe.stages[3].options;
  EXPECT_EQ(options, (std::vector<std::pair<std::string, std::string>>{{"imatrix", "@imatrix"}, {"no-check", "true"}}));
}

TEST(Recipe, ThoseThatComeAlongAreRead) {
  int n = 0;
  for (const auto& file : std::filesystem::directory_iterator(test::source_dir() + "/recipes")) {
    const std::string text = test::read_text(file.path().string());
    if (text.find("[[stage]]") == text.npos) continue;  // options of single commands, for --recipe
    const auto recipe = parse_recipe(text, file.path().string());
    EXPECT_TRUE(recipe.has_value()) << recipe.error().message;
    ++n;
  }
  EXPECT_GE(n, 2);
}

TEST(Recipe, MistakesAreNamed) {
  const auto refused = [](const std::string& text) {
    const auto recipe = parse_recipe(text, "r.toml");
    EXPECT_FALSE(recipe.has_value()) << text;
    return recipe ? std::string() : recipe.error().message;
  };
  const auto has = [&](const std::string& text, const std::string& word) {
    EXPECT_NE(refused(text).find(word), std::string::npos) << refused(text);
  };
  has("", "[[stage]]");
  has("[[stage]\n", "r.toml:1");
  has("colour = \"red\"\n" + std::string(kGood), "colour");
  has("[[stage]]\ncommand = \"rm\"\n", "rm");
  has("[[stage]]\ncommand = \"quantize\"\n", "type");
  has("[[stage]]\ncommand = \"prune\"\nname = \"../x\"\n", "../x");
  has("[[stage]]\ncommand = \"prune\"\noutput = \"/etc\"\n", "output");
  has("[[stage]]\ncommand = \"prune\"\nname = \"model\"\n", "taken");
  has("[[stage]]\ncommand = \"prune\"\n[[stage]]\ncommand = \"prune\"\n", "taken");
  has("[[stage]]\ncommand = \"heal\"\nin = \"pruned\"\n", "pruned");
  has("[[stage]]\ncommand = \"heal\"\nteacher = \"@big\"\n", "@big");
  has("[[stage]]\ncommand = \"convert\"\n[[stage]]\ncommand = \"prune\"\nin = \"convert\"\n", "cannot read");
  has("[[stage]]\ncommand = \"prune\"\nmax_kl = -1\n", "max_kl");
  has("[[stage]]\ncommand = \"prune\"\nratio = 1979-05-27\n", "ratio");
}

}  // namespace
}  // namespace shoehorn::fit
