#include "fit/runner.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "support/support.h"

namespace shoehorn::fit {
namespace {
namespace fs = std::filesystem;

/// A program that makes what the commands make, of the right names, and says the figures that a file tells it. It
/// counts its runs.
class Runner : public ::testing::Test {
 protected:
  Runner() {
    test::write_text(dir_ + "/program", R"(#!/bin/sh
echo "$*" >> ")" + dir_ + R"(/calls"
for word; do case $word in */failing.gguf) [ -e ")" +
                                            dir_ + R"(/broken" ] && exit 3 ;; esac; done
case $1 in
  prune|heal) mkdir -p "$4" && echo "$1" > "$4/config.json"; echo '{}' ;;
  convert|quantize) echo "$1" > "$3"; echo '{}' ;;
  perplexity) cat ")" + dir_ + R"(/figures" ;;
  bench) echo '[{"n_prompt":512,"n_gen":0}]' ;;
esac
)");
    fs::permissions(dir_ + "/program", fs::perms::owner_all);
    for (const char* input : {"calib", "eval"}) test::write_text(dir_ + "/" + input, "text");
    fs::create_directory(dir_ + "/model");
    test::write_text(dir_ + "/model/config.json", "{}");
    figures(R"({"ppl":7.5,"ppl_err":0.1,"kld_mean":0.02,"tokens":1020})");
    options_.directory = dir_ + "/run";
    options_.program = dir_ + "/program";
  }

  void figures(const std::string& json) { test::write_text(dir_ + "/figures", json); }
  Recipe recipe(const std::string& more = "") const {
    auto parsed = parse_recipe(
        "[[stage]]\ncommand = \"prune\"\ncalib = \"@calib\"\n[[stage]]\ncommand = \"heal\"\nteacher = \"@model\"\n"
        "[[stage]]\ncommand = \"quantize\"\ntype = \"Q4_K_M\"\n" +
            more,
        "test");
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    parsed->model = dir_ + "/model";
    parsed->calib = parsed->data = dir_ + "/calib";
    parsed->eval = dir_ + "/eval";
    return *parsed;
  }
  std::vector<std::string> calls() const {
    std::vector<std::string> out;
    std::istringstream in(fs::exists(dir_ + "/calls") ? test::read_text(dir_ + "/calls") : "");
    for (std::string line; std::getline(in, line);) out.push_back(line.substr(0, line.find(' ')));
    return out;
  }

  const std::string dir_ = test::temp_dir();
  RunOptions options_;
  NoProgress progress_;
};

using Calls = std::vector<std::string>;

TEST_F(Runner, StagesThenRates) {
  ASSERT_EXPECTED(const auto results, run_recipe(recipe(), options_, progress_));
  EXPECT_EQ(calls(),
            (Calls{"perplexity", "prune", "perplexity", "heal", "perplexity", "quantize", "perplexity", "bench"}));
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[3].name, "Q4_K_M");
  EXPECT_DOUBLE_EQ(results[3].kl, 0.02);
  EXPECT_TRUE(results[3].is_gguf);
  EXPECT_EQ(results[3].bench.size(), 1u);
  // What was read by all who read it is gone.
  EXPECT_FALSE(fs::exists(options_.directory + "/prune"));
  EXPECT_TRUE(fs::exists(options_.directory + "/Q4_K_M.gguf"));
  EXPECT_NE(test::read_text(options_.directory + "/run.log").find("shoehorn quantize"), std::string::npos);
}

TEST_F(Runner, AnotherRunInTheFolderIsRefused) {
  ASSERT_TRUE(run_recipe(recipe(), options_, progress_).has_value());
  const auto again = run_recipe(recipe(), options_, progress_);
  ASSERT_FALSE(again.has_value());
  EXPECT_NE(again.error().message.find("--resume"), std::string::npos) << again.error().message;
}

TEST_F(Runner, WhatIsDoneIsNotDoneAgain) {
  ASSERT_TRUE(run_recipe(recipe(), options_, progress_).has_value());
  const size_t before = calls().size();
  options_.resume = true;
  ASSERT_EXPECTED(const auto results, run_recipe(recipe(), options_, progress_));
  EXPECT_EQ(calls().size(), before);
  EXPECT_EQ(results.size(), 4u);
  // A stage that is new needs a checkpoint that was dropped: it is made again.
  ASSERT_TRUE(
      run_recipe(recipe("[[stage]]\ncommand = \"convert\"\nin = \"prune\"\n"), options_, progress_).has_value());
  const Calls all = calls();
  EXPECT_EQ(std::count(all.begin(), all.end(), "prune"), 2);
  EXPECT_EQ(std::count(all.begin(), all.end(), "convert"), 1);
}

TEST_F(Runner, OtherInputsAreOtherStages) {
  ASSERT_TRUE(run_recipe(recipe(), options_, progress_).has_value());
  test::write_text(dir_ + "/calib", "another text");
  options_.resume = true;
  ASSERT_TRUE(run_recipe(recipe(), options_, progress_).has_value());
  const Calls all = calls();
  EXPECT_EQ(std::count(all.begin(), all.end(), "prune"), 2);
  EXPECT_EQ(std::count(all.begin(), all.end(), "quantize"), 2);
}

TEST_F(Runner, AFailureNamesTheStageAndIsGoneOnFrom) {
  test::write_text(dir_ + "/broken", "");
  const std::string more = "[[stage]]\ncommand = \"convert\"\nname = \"failing\"\n";
  const auto failed = run_recipe(recipe(more), options_, progress_);
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find("stage 4 of 4, failing (convert)"), std::string::npos)
      << failed.error().message;
  EXPECT_NE(failed.error().message.find("exits with 3"), std::string::npos);
  fs::remove(dir_ + "/broken");
  const size_t before = calls().size();
  options_.resume = true;
  ASSERT_TRUE(run_recipe(recipe(more), options_, progress_).has_value());
  const Calls all = calls();
  EXPECT_EQ(Calls(all.begin() + static_cast<std::ptrdiff_t>(before), all.end()),
            (Calls{"convert", "perplexity", "bench", "bench"}));
}

TEST_F(Runner, TheGateStopsTheRun) {
  figures(R"({"ppl":7.5,"kld_mean":0.3,"tokens":10})");
  const auto failed = run_recipe(recipe("max_kl = 0.25\n"), options_, progress_);
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find("Q4_K_M"), std::string::npos);
  EXPECT_NE(failed.error().message.find("0.3000"), std::string::npos) << failed.error().message;
}

TEST_F(Runner, AnotherFormatOfTheSameWeightsMustBeTheSame) {
  Recipe convert = *parse_recipe("[[stage]]\ncommand = \"convert\"\nname = \"F16\"\n", "test");
  convert.model = recipe().model;
  convert.eval = recipe().eval;
  test::write_text(dir_ + "/program",
                   "#!/bin/sh\ncase $1 in convert) echo > $3; echo '{}' ;; perplexity) case $3 in *.gguf) "
                   "echo '{\"ppl\":7.6,\"tokens\":9}' ;; *) echo '{\"ppl\":7.5,\"tokens\":9}' ;; esac ;; esac\n");
  const auto failed = run_recipe(convert, options_, progress_);
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find("should be the same"), std::string::npos) << failed.error().message;
  EXPECT_NE(failed.error().message.find("F16 (convert)"), std::string::npos) << failed.error().message;
}

TEST_F(Runner, AFigureThatIsNoneStopsTheRun) {
  figures(R"({"ppl":null})");
  const auto failed = run_recipe(recipe(), options_, progress_);
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find("perplexity"), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::fit
