#include "fit/needs.h"

#include <filesystem>

#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::fit {
namespace {

Recipe recipe_of(const char* text) {
  auto recipe = parse_recipe(text, "test");
  EXPECT_TRUE(recipe.has_value()) << recipe.error().message;
  return *recipe;
}

constexpr const char* kStages = R"(
[[stage]]
command = "prune"
[[stage]]
command = "heal"
[[stage]]
command = "convert"
name = "F16"
[[stage]]
command = "quantize"
type = "Q8_0"
)";

class NeedsOfRecipe : public ::testing::Test {
 protected:
  NeedsOfRecipe() {
    const std::string directory = test::make_tiny_checkpoint(test::tiny_config()).directory;
    auto facts = read_model_facts(directory);
    EXPECT_TRUE(facts.has_value()) << facts.error().message;
    facts_ = *facts;
  }
  /// As a stage estimates that keeps half of every layer's neurons, or all.
  Json estimate(bool halves) const {
    Json layers = Json::array();
    for (const auto& layer : facts_.hparams.layers)
      layers.push_back({layer.n_head, layer.n_head_kv, halves ? layer.n_ff / 2 : layer.n_ff});
    return {{"memory_bytes", 1000}, {"output_bytes", halves ? 600 : 1000}, {"working_bytes", 50}, {"layers", layers}};
  }
  Expected<Needs> needs(const char* stages, bool keep = false) const {
    return needs_of(recipe_of(stages), facts_, 7, keep,
                    [&](const Stage& stage) -> Expected<Json> { return estimate(stage.command == "prune"); });
  }
  uint64_t parameters(bool halves) const {
    models::Hparams h = facts_.hparams;
    for (auto& layer : h.layers) layer.n_ff /= halves ? 2 : 1;
    return models::count_parameters(*facts_.architecture, h);
  }

  ModelFacts facts_;
};

TEST_F(NeedsOfRecipe, DiskIsWhatLiesThereAtOnce) {
  ASSERT_EXPECTED(const Needs n, needs(kStages));
  ASSERT_EQ(n.stages.size(), 4u);
  EXPECT_EQ(n.memory_bytes, convert::kStreamingBytes) << "the largest of all";
  EXPECT_EQ(n.stages[0].output_bytes, 600u);
  // Healing was asked of the whole model: its output is as much smaller as what it will heal.
  const double share = static_cast<double>(parameters(true)) / static_cast<double>(parameters(false));
  EXPECT_NEAR(static_cast<double>(n.stages[1].output_bytes), 1000 * share, 1);
  EXPECT_EQ(n.stages[0].disk_bytes, 7u + 600 + 50);
  EXPECT_EQ(n.stages[1].disk_bytes, 7u + 600 + n.stages[1].output_bytes + 50);
  // The pruned checkpoint has been read by all who read it, and is gone.
  EXPECT_EQ(n.stages[2].disk_bytes, 7u + n.stages[1].output_bytes + n.stages[2].output_bytes);
  const uint64_t files = n.stages[2].output_bytes + n.stages[3].output_bytes;
  EXPECT_EQ(n.disk_bytes, 7u + n.stages[1].output_bytes + files);
  EXPECT_EQ(n.left_bytes, 7u + files);

  ASSERT_EXPECTED(const Needs kept, needs(kStages, true));
  EXPECT_EQ(kept.left_bytes, 7u + 600 + n.stages[1].output_bytes + files);
}

TEST_F(NeedsOfRecipe, FilesAreThoseOfThePrunedShape) {
  ASSERT_EXPECTED(const Needs n, needs(kStages));
  ASSERT_EXPECTED(const Needs whole, needs("[[stage]]\ncommand = \"convert\"\nname = \"F16\"\n"));
  EXPECT_NEAR(static_cast<double>(whole.stages[0].output_bytes - n.stages[2].output_bytes),
              static_cast<double>(2 * (parameters(false) - parameters(true))), 512)
      << "beside metadata, two bytes each";
}

TEST_F(NeedsOfRecipe, ATargetIsTheSize) {
  ASSERT_EXPECTED(const Needs n, needs("[[stage]]\ncommand = \"quantize\"\ntype = \"auto\"\ntarget-size = \"1M\"\n"));
  EXPECT_EQ(n.stages[0].output_bytes, 1000u);
}

TEST_F(NeedsOfRecipe, ARefusalNamesTheStage) {
  const auto refused = needs_of(recipe_of(kStages), facts_, 0, false, [](const Stage& stage) -> Expected<Json> {
    if (stage.command == "heal") return fail(ErrorCode::kTooLarge, "12 GiB, there are 4");
    return Json::object();
  });
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("stage 2 of 4, heal"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("12 GiB, there are 4"), std::string::npos);
  const auto nonsense = needs_of(recipe_of(kStages), facts_, 0, false, [&](const Stage&) -> Expected<Json> {
    return Json{{"layers", Json::array_t(facts_.hparams.layers.size(), "wide")}};
  });
  EXPECT_FALSE(nonsense.has_value());
}

TEST(Disk, IsRefusedWithTheNumbers) {
  Needs needs;
  const std::string directory = test::temp_dir() + "/not/there";
  EXPECT_TRUE(check_disk(needs, directory).has_value());
  needs.disk_bytes = uint64_t{1} << 60;
  const Status refused = check_disk(needs, directory);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(refused.error().message.find("are free there"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace shoehorn::fit
