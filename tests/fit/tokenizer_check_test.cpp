#include "fit/tokenizer_check.h"

#include "fit/chosen_recipe.h"
#include "support/running_model.h"

namespace shoehorn::fit {
namespace {

TEST(TokenizerCheck, AFileReadsTextAsItsCheckpoint) {
  const std::string model = test::source_dir() + "/models/fable-10m", file = test::to_gguf(model, "F16");
  const std::string text = test::read_text(model + "/eval.txt").substr(0, 5000);
  ASSERT_EXPECTED(const auto check, check_tokenizer(model, file, text));
  EXPECT_TRUE(check.same);
  EXPECT_TRUE(check.same_template);
  EXPECT_GT(check.tokens, 500u);
}

TEST(TokenizerCheck, AnotherTokenizerIsFound) {
  const std::string model = test::source_dir() + "/models/fable-10m";
  const std::string other = test::to_gguf(test::make_tiny_checkpoint(test::tiny_config()).directory, "F32");
  ASSERT_EXPECTED(const auto check, check_tokenizer(model, other, "Once upon a time there was a little girl."));
  EXPECT_FALSE(check.same);
}

TEST(ChosenRecipe, FilesAreNamedByTheConvention) {
  ModelFacts model;
  model.name = "Llama-3.1-8B-Instruct";
  model.hparams.n_layer = 32;
  Choice choice;
  choice.mix = quant::find_mix("Q4_K_M");
  choice.parameters = 8030261248;
  const Recipe whole = recipe_of(model, choice);
  ASSERT_EQ(whole.stages.size(), 1u);
  EXPECT_EQ(whole.stages[0].name, "Llama-3.1-8B-Instruct-Q4_K_M");
  choice.width = 0.75;
  choice.parameters = 6973296640;
  const Recipe pruned = recipe_of(model, choice);
  ASSERT_EQ(pruned.stages.size(), 3u);
  EXPECT_EQ(pruned.stages[2].name, "Llama-3.1-7.0B-Instruct-pruned-Q4_K_M");
  EXPECT_EQ(pruned.stages[0].option("layers"), "4-27");
  // What it writes is a recipe that can be read.
  ASSERT_EXPECTED(const Recipe again, parse_recipe(to_toml(pruned), "test"));
  EXPECT_EQ(again.stages.size(), 3u);
  model.name = "../a model/";
  choice.width = 1;
  EXPECT_EQ(recipe_of(model, choice).stages[0].name.find('/'), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::fit
