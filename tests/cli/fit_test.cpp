// The whole way, as one command.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/json.h"
#include "cli/program.h"
#include "support/support.h"

namespace shoehorn::test {
namespace {
namespace fs = std::filesystem;

class Fit : public ::testing::Test {
 protected:
  Fit() {
    write_text(dir_ + "/recipe.toml", "model = \"" + model_ + R"("
eval_chunks = 2
[[stage]]
command = "prune"
method = "obs"
layers = "1-6"
ratio = 0.25
calib = "@calib"
samples = 4
seq-len = 64
[[stage]]
command = "heal"
data = "@data"
teacher = "@model"
max-steps = 2
validation = 2
batch = 2
cutoff = 64
[[stage]]
command = "quantize"
name = "small"
type = "Q4_K_M"
no-check = true
[[stage]]
command = "quantize"
name = "smaller"
in = "model"
type = "Q3_K_M"
no-check = true
)");
  }
  std::vector<std::string> command(const std::string& out, bool resume) const {
    std::vector<std::string> words = {"fit",     dir_ + "/recipe.toml",
                                      "-o",      dir_ + "/" + out,
                                      "--calib", model_ + "/calib.txt",
                                      "--eval",  model_ + "/eval.txt",
                                      "--json",  "-q"};
    if (resume) words.push_back("--resume");
    return words;
  }

  const std::string model_ = source_dir() + "/models/fable-10m", dir_ = temp_dir();
};

TEST_F(Fit, ARecipeFromCheckpointToReport) {
  const Result result = run(command("run", false));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = parse_json(result.out);
  ASSERT_TRUE(json.has_value());
  const Json& results = (*json)["results"];
  ASSERT_EQ(results.size(), 5u);
  EXPECT_LT(results[3]["parameters"], 9703680);
  EXPECT_EQ(results[4]["parameters"], 9703680);
  EXPECT_GT(results[3]["kld_mean"], 0);
  EXPECT_GT(results[4]["tokens_per_second"], 0);
  EXPECT_EQ(results[4]["bytes"], fs::file_size(dir_ + "/run/smaller.gguf"));
  EXPECT_FALSE(fs::exists(dir_ + "/run/prune"));
  EXPECT_NE(read_text(dir_ + "/run/report.html").find("smaller"), std::string::npos);
  // Nothing is done a second time.
  const std::string log = read_text(dir_ + "/run/run.log");
  ASSERT_EQ(run(command("run", true)).exit_code, 0);
  EXPECT_EQ(read_text(dir_ + "/run/run.log"), log);
}

TEST_F(Fit, KillsInEveryStageChangeNothing) {
  ASSERT_EQ(run(command("whole", false)).exit_code, 0);
  bool resume = false;
  for (const char* record : {"source-perplexity", "prune", "heal", "small"}) {
    Program program(command("killed", resume));
    resume = true;
    const std::string waited = dir_ + "/killed/records/" + record + ".json";
    for (int i = 0; i < 6000 && !fs::exists(waited) && program.running(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    // Somewhere in what comes next.
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    program.signal(SIGKILL);
    program.wait();
  }
  const Result result = run(command("killed", true));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* file : {"small.gguf", "smaller.gguf"}) {
    EXPECT_EQ(read_bytes(dir_ + "/whole/" + file), read_bytes(dir_ + "/killed/" + file)) << file;
  }
}

TEST_F(Fit, APlanNeedsNoWeights) {
  const std::string dir = dir_ + "/only-config";
  fs::create_directory(dir);
  fs::copy(model_ + "/config.json", dir + "/config.json");
  const Result plan = ::shoehorn::test::run({"fit", dir + "/config.json", "--device", "rpi4-4g", "--plan", "--json"});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  const auto json = parse_json(plan.out);
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ((*json)["choices"][(*json)["recommended"].get<size_t>()]["type"], "Q8_0");
  const Result table = ::shoehorn::test::run({"fit", dir, "--device", "rpi4-4g", "--plan"});
  EXPECT_NE(table.out.find("unknown"), std::string::npos);
  EXPECT_NE(table.out.find("No tokenizer"), std::string::npos);
  const Result nowhere = ::shoehorn::test::run({"fit", dir, "--device", "toaster", "--plan"});
  EXPECT_EQ(nowhere.exit_code, 1);
  EXPECT_NE(nowhere.err.find("rpi5-8g"), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::test
