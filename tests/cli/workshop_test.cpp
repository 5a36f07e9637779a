// The workshop's commands: whole runs, kills at any moment, several processes.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/program.h"
#include "io/safetensors.h"
#include "support/resume.h"
#include "support/support.h"

namespace shoehorn::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Arguments = std::vector<std::string>;

std::string fable() { return source_dir() + "/models/fable-10m"; }
std::string calib() { return fable() + "/calib.txt"; }

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

const Arguments kPrune = {"prune", fable(), "--method", "obs", "--layers", "1-6", "--calib", calib(), "--samples", "16", "--seq-len", "128", "-t", "1"};
const Arguments kTaylor = {"prune", fable(), "--method", "taylor", "--target", "mlp,attention", "--layers", "1-6", "--ratio", "0.5", "--calib", calib(),
                           "--samples", "10", "--seq-len", "128", "-t", "1"};

Arguments heal_arguments(const std::string& model, int steps) {
  return {"heal", model, "--data", calib(), "--teacher", fable(), "--max-steps", std::to_string(steps), "--batch", "4", "--micro-batch", "2", "--cutoff", "64",
          "--validation", "8", "--validate-every", "5", "--warmup", "2", "--lr", "0.003", "-t", "1"};
}

TEST(Workshop, PrunesHealsAndWritesAGguf) {
  const std::string dir = temp_dir();
  const Result pruned = run(with(kPrune, {"-o", dir + "/pruned", "--json"}));
  ASSERT_EQ(pruned.exit_code, 0) << pruned.err;
  const Json report = Json::parse(pruned.out);
  EXPECT_EQ(report["parameters_before"], 9703680);
  EXPECT_EQ(report["parameters"], 9703680 - 6 * 256 * 3 * 256);
  EXPECT_GT(report["check"]["kld_mean"], 0);
  const Result healed = run(with(heal_arguments(dir + "/pruned", 12), {"-o", dir + "/healed", "--json"}));
  ASSERT_EQ(healed.exit_code, 0) << healed.err;
  const Json healing = Json::parse(healed.out);
  EXPECT_EQ(healing["steps"], 12);
  EXPECT_LE(healing["validation_after"], healing["validation_before"]);
  ASSERT_EQ(run({"quantize", dir + "/healed", dir + "/q.gguf", "Q4_K_M"}).exit_code, 0);
  EXPECT_EQ(Json::parse(run({"inspect", dir + "/q.gguf", "--json"}).out)["architecture"], "deci");
  const Result text = run({"run", "-m", dir + "/q.gguf", "-no-cnv", "-p", "Once upon a time", "-n", "8", "--temp", "0"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_TRUE(text.out.starts_with("Once upon a time"));
}

/// Starts, kills after a while and resumes, `kills` times and five times more while it writes; then lets it end. The output must be the
/// uninterrupted run's.
void expect_kills_change_nothing(const Arguments& arguments, int kills) {
  const std::string dir = temp_dir();
  const auto start = Clock::now();
  const Result whole = run(with(arguments, {"-o", dir + "/whole"}));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const double duration = seconds_since(start);
  const auto expected = contents(dir + "/whole");
  std::mt19937 random(7);
  int done = 0;
  for (int i = 0; i < kills; ++i) {
    const Arguments resume = i == 0 ? Arguments{} : Arguments{"--resume"};
    Program program(with(arguments, with({"-o", dir + "/out"}, resume)));
    std::this_thread::sleep_for(std::chrono::duration<double>(duration * (0.2 + 0.8 * static_cast<double>(random()) / 4294967296.0)));
    program.signal(SIGKILL);
    const Result result = program.wait();
    if (result.exit_code == 0) {
      // It was faster. Begin anew.
      EXPECT_TRUE(contents(dir + "/out") == expected);
      fs::remove_all(dir + "/out");
      ++done;
      continue;
    }
    ASSERT_EQ(result.exit_code, 128 + SIGKILL) << result.err;
  }
  EXPECT_LT(done, kills);

  // And while it writes the weights, into a file that has no name yet.
  fs::remove_all(dir + "/out");
  int while_writing = 0;
  for (int i = 0; i < 5; ++i) {
    Program program(with(arguments, {"-o", dir + "/out", "--resume"}));
    const auto writes = [&] {
      const auto files = program.open_files();
      return std::ranges::any_of(files, [&](const std::string& file) { return file.starts_with(dir + "/out.partial/#"); });
    };
    bool seen = false;
    while (!seen && program.running()) {
      seen = writes();
      if (!seen) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    program.signal(SIGKILL);
    program.wait();
    while_writing += seen && !fs::exists(dir + "/out");
  }
  EXPECT_EQ(while_writing, 5);
  const Result last = run(with(arguments, {"-o", dir + "/out", "--resume"}));
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_TRUE(contents(dir + "/out") == expected);
  EXPECT_FALSE(fs::exists(dir + "/out.partial"));
}

TEST(SlowWorkshop, KillsDoNotChangePruning) {
  expect_kills_change_nothing(kPrune, 6);
  expect_kills_change_nothing(kTaylor, 6);
}

TEST(SlowWorkshop, KillsDoNotChangeHealing) { expect_kills_change_nothing(heal_arguments(fable(), 12), 8); }

Arguments gptq_arguments(const std::string& type, const std::string& out) {
  return {"quantize", fable(),    out,         type, "--method", "gptq", "--calib",
          calib(),    "--samples", "32", "--seq-len", "128", "-t", "1"};
}

TEST(Workshop, GptqLosesLessThanRounding) {
  const std::string dir = temp_dir();
  ASSERT_EQ(run({"convert", fable(), dir + "/f16.gguf"}).exit_code, 0);
  ASSERT_EQ(run({"quantize", fable(), dir + "/rtn.gguf", "Q3_K_M"}).exit_code, 0);
  const Result gptq = run(with(gptq_arguments("Q3_K_M", dir + "/gptq.gguf"), {"--json"}));
  ASSERT_EQ(gptq.exit_code, 0) << gptq.err;
  EXPECT_EQ(Json::parse(gptq.out)["file_bytes"], fs::file_size(dir + "/gptq.gguf"));
  const auto divergence = [&](const std::string& name) {
    const Result result = run({"perplexity", "-m", dir + "/" + name, "-f", fable() + "/eval.txt", "-c", "256", "--chunks", "8",
                               "--kl-base", dir + "/f16.gguf", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out)["kld_mean"].get<double>();
  };
  EXPECT_LT(divergence("gptq.gguf"), 0.85 * divergence("rtn.gguf"));
}

TEST(SlowWorkshop, AwqTakesBackWhatOutliersCost) {
  const std::string dir = temp_dir();
  const std::string make = std::string(SHOEHORN_MAKE_CHECKPOINT) + " --from " + fable() + " --outliers -o " + dir + "/outliers > /dev/null";
  ASSERT_EQ(std::system(make.c_str()), 0);
  ASSERT_EQ(run({"convert", fable(), dir + "/f16.gguf"}).exit_code, 0);
  const auto divergence = [&](const std::string& model, const Arguments& method) {
    const Result written = run(with({"quantize", model, dir + "/q.gguf", "Q3_K_M"}, method));
    EXPECT_EQ(written.exit_code, 0) << written.err;
    const Result result = run({"perplexity", "-m", dir + "/q.gguf", "-f", fable() + "/eval.txt", "-c", "256", "--chunks", "6",
                               "--kl-base", dir + "/f16.gguf", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out)["kld_mean"].get<double>();
  };
  const double plain = divergence(fable(), {}), outliers = divergence(dir + "/outliers", {});
  const double awq = divergence(dir + "/outliers", {"--method", "awq", "--calib", calib(), "--samples", "16", "--seq-len", "128"});
  EXPECT_GT(outliers, 3 * plain);
  EXPECT_LT(awq - plain, 0.5 * (outliers - plain));
}

TEST(SlowWorkshop, KillsDoNotChangeGptq) {
  const std::string dir = temp_dir();
  const auto start = Clock::now();
  ASSERT_EQ(run(gptq_arguments("Q2_K", dir + "/whole.gguf")).exit_code, 0);
  double duration = seconds_since(start);
  const auto expected = read_bytes(dir + "/whole.gguf");
  std::mt19937 random(8);
  int killed = 0;
  for (int i = 0; i < 6; ++i) {
    Program program(with(gptq_arguments("Q2_K", dir + "/out.gguf"), i == 0 ? Arguments{} : Arguments{"--resume"}));
    std::this_thread::sleep_for(std::chrono::duration<double>(duration * (0.3 + 0.6 * static_cast<double>(random()) / 4294967296.0)));
    program.signal(SIGKILL);
    if (program.wait().exit_code == 0) {
      // It was faster: the machine had been busy. Begin anew.
      EXPECT_TRUE(read_bytes(dir + "/out.gguf") == expected);
      fs::remove(dir + "/out.gguf");
      duration *= 0.5;
      continue;
    }
    ++killed;
    // The last thing that a run does is to name the file: killed after that, it leaves a whole one.
    if (fs::exists(dir + "/out.gguf")) {
      EXPECT_TRUE(read_bytes(dir + "/out.gguf") == expected);
      break;
    }
  }
  EXPECT_GT(killed, 0);
  const Result last = run(with(gptq_arguments("Q2_K", dir + "/out.gguf"), {"--resume"}));
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_TRUE(read_bytes(dir + "/out.gguf") == expected);
  EXPECT_FALSE(fs::exists(dir + "/out.gguf.state"));
}

TEST(Workshop, GptqSaysWhatItNeeds) {
  const std::string out = temp_dir() + "/out.gguf";
  const Result no_text = run({"quantize", fable(), out, "Q2_K", "--method", "gptq"});
  EXPECT_EQ(no_text.exit_code, 1);
  EXPECT_NE(no_text.err.find("--calib"), std::string::npos) << no_text.err;
  const Result target = run({"quantize", fable(), out, "Q2_K", "--target-size", "4M"});
  EXPECT_EQ(target.exit_code, 1);
  EXPECT_NE(target.err.find("choosing types learns from text"), std::string::npos) << target.err;
  const Result no_type = run({"quantize", fable(), out, "auto"});
  EXPECT_EQ(no_type.exit_code, 1);
  EXPECT_NE(no_type.err.find("unknown type auto"), std::string::npos) << no_type.err;
  EXPECT_FALSE(fs::exists(out));
}

/// The variables of process `rank` of `size`.
std::map<std::string, std::string> rank_of(int rank, int size, int port) {
  return {{"RANK", std::to_string(rank)}, {"WORLD_SIZE", std::to_string(size)}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", std::to_string(port)}};
}

int some_port() {
  std::random_device random;
  return 20000 + static_cast<int>(random() % 30000);
}

std::vector<float> tensor_values(const std::string& path) {
  auto file = MappedFile::open(path);
  EXPECT_TRUE(file.has_value()) << path;
  const auto tensors = io::read_safetensors(file->bytes(), path);
  EXPECT_TRUE(tensors.has_value());
  std::vector<float> out;
  for (const auto& tensor : *tensors) {
    const size_t n = tensor.data.size() / io::dtype_info(tensor.dtype).bytes, first = out.size();
    out.resize(first + n);
    io::decode_floats(tensor.dtype, tensor.data.data(), n, out.data() + first);
  }
  return out;
}

TEST(Workshop, TrainsForAFormatAndWritesItsGguf) {
  const std::string dir = temp_dir();
  const auto trained = [&](const std::string& name, const Arguments& more) {
    const Result result = run(with({"heal", fable(), "-o", dir + "/" + name, "--data", calib(), "--qat", "ternary", "--max-steps", "3", "--batch", "4", "--micro-batch", "4",
                                    "--cutoff", "64", "--validation", "4", "--warmup", "1", "-t", "1", "--json"}, more));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out);
  };
  const Json report = trained("default", {});
  EXPECT_EQ(report["gguf"], "model-TQ2_0.gguf");
  EXPECT_LT(report["validation_after"], report["validation_before"]);
  // Ternary weights have the rate of few bits.
  EXPECT_EQ(trained("same", {"--lr", "0.001"})["losses"], report["losses"]);
  EXPECT_NE(trained("other", {"--lr", "0.0002"})["losses"], report["losses"]);
  const Result text = run({"run", "-m", dir + "/default/model-TQ2_0.gguf", "-no-cnv", "-p", "Once upon a time", "-n", "8", "--temp", "0"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
}

TEST(SlowWorkshop, TwoProcessesHealLikeOne) {
  const std::string dir = temp_dir();
  const Arguments arguments = with(heal_arguments(fable(), 4), {"--compute-dtype", "f32", "--dropout", "0.1"});
  const Result alone = run(with(arguments, {"-o", dir + "/alone"}));
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  const int port = some_port();
  Program first(with(arguments, {"-o", dir + "/both"}), "", rank_of(0, 2, port)), second(with(arguments, {"-o", dir + "/both"}), "", rank_of(1, 2, port));
  const Result a = first.wait(), b = second.wait();
  ASSERT_EQ(a.exit_code, 0) << a.err;
  ASSERT_EQ(b.exit_code, 0) << b.err;
  const auto expected = tensor_values(dir + "/alone/adapter/adapter_model.safetensors"), found = tensor_values(dir + "/both/adapter/adapter_model.safetensors");
  ASSERT_EQ(expected.size(), found.size());
  double worst = 0, most = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(expected[i]) - static_cast<double>(found[i])));
    most = std::max(most, std::abs(static_cast<double>(expected[i])));
  }
  EXPECT_LT(worst, 1e-3 * most);
}

TEST(SlowWorkshop, TwoProcessesPruneLikeOne) {
  const std::string dir = temp_dir();
  for (const Arguments& base : {kPrune, kTaylor}) {
    const Arguments arguments = with(base, {"--dtype", "f32"});
    const std::string name = base[3];
    ASSERT_EQ(run(with(arguments, {"-o", dir + "/alone-" + name})).exit_code, 0);
    const int port = some_port();
    Program first(with(arguments, {"-o", dir + "/both-" + name}), "", rank_of(0, 2, port)),
        second(with(arguments, {"-o", dir + "/both-" + name}), "", rank_of(1, 2, port));
    const Result a = first.wait(), b = second.wait();
    ASSERT_EQ(a.exit_code, 0) << a.err;
    ASSERT_EQ(b.exit_code, 0) << b.err;
    const auto expected = tensor_values(dir + "/alone-" + name + "/model.safetensors"), found = tensor_values(dir + "/both-" + name + "/model.safetensors");
    ASSERT_EQ(expected.size(), found.size());
    size_t different = 0;
    for (size_t i = 0; i < expected.size(); ++i) different += std::abs(expected[i] - found[i]) > 2e-2f * (0.01f + std::abs(expected[i]));
    EXPECT_LT(different, expected.size() / 1000) << name;
  }
}

TEST(SlowWorkshop, ADeadProcessIsReported) {
  const std::string dir = temp_dir();
  const Arguments arguments = with(heal_arguments(fable(), 100000), {"-o", dir + "/out"});
  const int port = some_port();
  Program first(arguments, "", rank_of(0, 2, port)), second(arguments, "", rank_of(1, 2, port));
  std::this_thread::sleep_for(std::chrono::seconds(6));
  ASSERT_TRUE(first.running());
  second.signal(SIGKILL);
  const auto start = Clock::now();
  const Result result = first.wait();
  EXPECT_LT(seconds_since(start), 30);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("--resume"), std::string::npos) << result.err;
}

TEST(Workshop, RecipesGiveWhatTheCommandLineDoesNot) {
  const std::string dir = temp_dir(), recipe = dir + "/recipe.toml";
  write_text(recipe, "[prune]\nmethod = \"magnitude\"\nlayers = \"2-5\"\nratio = 0.5\nno-check = true\n[heal]\nrank = 4\n");
  const Result pruned = run({"prune", fable(), "-o", dir + "/out", "--recipe", recipe, "--ratio", "0.25", "--json"});
  ASSERT_EQ(pruned.exit_code, 0) << pruned.err;
  const Json report = Json::parse(pruned.out);
  EXPECT_EQ(report["method"], "magnitude");
  EXPECT_EQ(report["layers"].size(), 4u);
  EXPECT_EQ(report["layers"][0]["n_ff"][1], 768) << "the command line goes first";
  write_text(recipe, "[prune]\nmethod = magnitude\n");
  EXPECT_NE(run({"prune", fable(), "-o", dir + "/no", "--recipe", recipe}).err.find("recipe.toml:2"), std::string::npos);
  write_text(recipe, "[prune]\nmethd = \"magnitude\"\n");
  EXPECT_EQ(run({"prune", fable(), "-o", dir + "/no", "--recipe", recipe}).exit_code, 2);
  EXPECT_EQ(run({"heal", fable(), "-o", dir + "/no", "--recipe", recipe}).exit_code, 1);
  // The one that comes with the program.
  const Result shipped = run({"prune", fable(), "-o", dir + "/no", "--recipe", source_dir() + "/recipes/llm-pruner-llama-3.1-8b.toml", "--calib", calib()});
  EXPECT_NE(shipped.err.find("the model has layers 0 to 7"), std::string::npos) << shipped.err;
}

TEST(Workshop, WrongLaunchVariablesAreNamed) {
  Program program({"prune", fable(), "-o", temp_dir() + "/out", "--method", "magnitude"}, "", {{"WORLD_SIZE", "2"}, {"RANK", "2"}, {"MASTER_PORT", "1"}});
  const Result result = program.wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("RANK is \"2\""), std::string::npos) << result.err;
}

/// fable-10m is stored as BF16: rounding a rotated model to it again costs something, writing it as F32 nothing beyond
/// the difference between the products of BF16 and of F32.
TEST(Workshop, ARotatedModelIsTheSameModel) {
  const std::string dir = temp_dir();
  const Result exact = run({"rotate", fable(), "-o", dir + "/f32", "--dtype", "f32", "--json", "-t", "2"});
  ASSERT_EQ(exact.exit_code, 0) << exact.err;
  const Json report = Json::parse(exact.out);
  EXPECT_EQ(report["rotated"]["r1"], "256");
  EXPECT_EQ(report["rotated"]["r2"], "32");
  EXPECT_LT(report["check"]["kld_mean"], 2e-5);
  const Result rounded = run({"rotate", fable(), "-o", dir + "/bf16", "--dtype", "bf16", "--rotations", "r1", "--json"});
  ASSERT_EQ(rounded.exit_code, 0) << rounded.err;
  const Json coarse = Json::parse(rounded.out);
  EXPECT_TRUE(coarse["rotated"]["r2"].is_null());
  EXPECT_GT(coarse["check"]["kld_mean"], report["check"]["kld_mean"]);
  EXPECT_LT(coarse["check"]["kld_mean"], 1e-3);
  EXPECT_EQ(Json::parse(read_text(dir + "/bf16/config.json"))["torch_dtype"], "bfloat16");
  const Result wrong = run({"rotate", fable(), "-o", dir + "/no", "--rotations", "r1,r9"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.err.find("r9"), std::string::npos) << wrong.err;
  EXPECT_FALSE(fs::exists(dir + "/no"));
  EXPECT_EQ(run({"rotate", fable(), "-o", dir + "/f32", "--dtype", "bf16"}).exit_code, 1) << "another result is there";
}

}  // namespace
}  // namespace shoehorn::test
