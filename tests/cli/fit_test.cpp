// The whole way, as one command.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/json.h"
#include "cli/program.h"
#include "support/small_disk.h"
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
  std::vector<std::string> command(const std::string& out, bool resume, const char* device = "generic") const {
    std::vector<std::string> words = {"fit",     dir_ + "/recipe.toml",
                                      "-o",      dir_ + "/" + out,
                                      "--calib", model_ + "/calib.txt",
                                      "--eval",  model_ + "/eval.txt",
                                      "--json",  "-q"};
    // Otherwise this machine is measured.
    if (device != nullptr) words.insert(words.end(), {"--device", device});
    if (resume) words.push_back("--resume");
    return words;
  }

  /// Until a file is there, or the program that is to make it has ended.
  static void wait_for(const std::string& file, const Program& program) {
    for (int i = 0; i < 60000 && !fs::exists(file) && program.running(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  const std::string model_ = source_dir() + "/models/fable-10m", dir_ = temp_dir();
};

/// Whole recipes: minutes each under the sanitizers, which see every stage in its own tests.
class SlowFit : public Fit {};

TEST_F(SlowFit, ARecipeFromCheckpointToReport) {
  Program program(command("run", false, nullptr));
  wait_for(dir_ + "/run/records/prune.json", program);
  const int checkpoint = ::open((dir_ + "/run/prune").c_str(), O_PATH | O_DIRECTORY);
  const Result result = program.wait();
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
  EXPECT_GT(results[4]["predicted_tokens_per_second"], 0);
  for (const Json& stage : {results[1], results[3], results[4]}) {
    EXPECT_NEAR(stage["predicted_bytes"].get<double>(), stage["bytes"].get<double>(),
                1e-3 * stage["bytes"].get<double>())
        << stage["name"];
  }
  EXPECT_TRUE((*json)["tokenizer"]["small"]["same"]);
  for (const char* gone : {"/run/prune", "/run/heal", "/run/records/source.states"})
    EXPECT_FALSE(fs::exists(dir_ + gone)) << gone;
  // It was out of its place before anything in it was removed: a kill leaves no half of it there.
  EXPECT_EQ(fs::read_symlink("/proc/self/fd/" + std::to_string(checkpoint)), dir_ + "/run/records/prune.dropped (deleted)");
  ::close(checkpoint);
  EXPECT_NE(read_text(dir_ + "/run/report.html").find("smaller"), std::string::npos);
  // Nothing is done a second time.
  const std::string log = read_text(dir_ + "/run/run.log");
  ASSERT_EQ(run(command("run", true, nullptr)).exit_code, 0);
  EXPECT_EQ(read_text(dir_ + "/run/run.log"), log);
}

TEST_F(SlowFit, AModelGetsTheRecipeThatWasChosenForIt) {
  // Room for Q6_K and some context, not for Q8_0.
  const std::vector<std::string> words = {"fit", model_, "--device",    "generic",  "--ram", "28M",   "-c",
                                          "256", "-o",   dir_ + "/run", "--chunks", "2",     "--json"};
  const Result result = ::shoehorn::test::run(words);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("generic; text like"), std::string::npos)
      << "the bundled texts are warned of: " << result.err;
  EXPECT_NE(result.err.find("of disk and"), std::string::npos) << result.err;
  const auto json = parse_json(result.out);
  ASSERT_TRUE(json.has_value());
  const std::string made = (*json)["model"];
  EXPECT_EQ(made, dir_ + "/run/fable-10m-Q6_K.gguf");
  EXPECT_EQ((*json)["results"].size(), 2u);
  EXPECT_LT((*json)["results"][1]["kld_mean"], 0.01);
  // The recipe that it wrote makes the same.
  const Result again = ::shoehorn::test::run(
      {"fit", dir_ + "/run/recipe.toml", "--device", "generic", "-o", dir_ + "/again", "--json", "-q"});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(fs::file_size(made), fs::file_size(dir_ + "/again/fable-10m-Q6_K.gguf"));
}

TEST_F(SlowFit, KillsInEveryStageChangeNothing) {
  ASSERT_EQ(run(command("whole", false)).exit_code, 0);
  bool resume = false;
  for (const char* record : {"source-perplexity", "prune", "heal", "small"}) {
    Program program(command("killed", resume));
    resume = true;
    wait_for(dir_ + "/killed/records/" + record + ".json", program);
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

TEST_F(SlowFit, AFullDiskInEveryStageChangesNothing) {
  const SmallDisk disk(dir_ + "/disk", "200M");
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  ASSERT_EQ(run(command("whole", false)).exit_code, 0);
  bool resume = false;
  for (const char* record : {"source-perplexity", "prune-perplexity", "heal-perplexity", "small-perplexity"}) {
    Program program(command("disk/run", resume));
    resume = true;
    wait_for(dir_ + "/disk/run/records/" + record + ".json", program);
    // The next stage writes into this.
    disk.fill();
    const Result result = program.wait();
    EXPECT_EQ(result.exit_code, 1) << record;
    EXPECT_TRUE(result.err.find("No space left") != std::string::npos || result.err.find("free") != std::string::npos)
        << result.err;
    disk.empty();
  }
  const Result result = run(command("disk/run", true));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* file : {"small.gguf", "smaller.gguf"}) {
    EXPECT_EQ(read_bytes(dir_ + "/whole/" + file), read_bytes(dir_ + "/disk/run/" + file)) << file;
  }
}

TEST_F(Fit, ADiskThatIsTooSmallIsSaidBeforeAnythingIsDone) {
  const SmallDisk disk(dir_ + "/disk", "20M");
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  const Result result = run(command("disk/run", false));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("of disk at its most"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(dir_ + "/disk/run/records"));
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
