// Models of the hub, fetched by the program.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <thread>

#include "cli/program.h"
#include "support/fake_hub.h"
#include "support/support.h"

namespace shoehorn::test {
namespace {
namespace fs = std::filesystem;

class HubModel : public ::testing::Test {
 protected:
  HubModel() {
    for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
      hub_.add(file, read_text(directory_ + "/" + file), false);
    }
    hub_.add("model.safetensors", read_text(directory_ + "/model.safetensors"), true);
    environment_ = {
        {"HF_ENDPOINT", hub_.url()}, {"HF_HUB_CACHE", temp_dir()}, {"HF_TOKEN", ""}, {"HF_HUB_OFFLINE", ""}};
  }

  Result run(std::vector<std::string> arguments) const {
    return Program(std::move(arguments), "", environment_).wait();
  }

  const std::string directory_ = source_dir() + "/models/fable-10m";
  const std::string name_ = std::string("hf:") + hub::FakeHub::kRepository;
  hub::FakeHub hub_;
  std::map<std::string, std::string> environment_;
};

TEST_F(HubModel, IsAModelAsOneOnTheDisk) {
  const Result there = run({"tokenize", "-m", name_, "-p", "Once upon a time", "-q"});
  const Result here = run({"tokenize", "-m", directory_, "-p", "Once upon a time", "-q"});
  ASSERT_EQ(there.exit_code, 0) << there.err;
  EXPECT_EQ(there.out, here.out);
  const std::string dir = temp_dir();
  const Result quantized = run({"quantize", name_, dir + "/hub.gguf", "Q4_K_M", "--no-check", "-q"});
  ASSERT_EQ(quantized.exit_code, 0) << quantized.err;
  ASSERT_EQ(run({"quantize", directory_, dir + "/disk.gguf", "Q4_K_M", "--no-check", "-q"}).exit_code, 0);
  EXPECT_EQ(fs::file_size(dir + "/hub.gguf") > 5'000'000, true);
  EXPECT_EQ(hub_.asked_for("model.safetensors"), 1);
}

TEST_F(HubModel, APlanFetchesNoWeights) {
  const Result plan = run({"fit", name_, "--device", "rpi4-4g", "--plan", "-q"});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_NE(plan.out.find("Q8_0"), std::string::npos);
  EXPECT_EQ(plan.out.find("No tokenizer"), std::string::npos);
  EXPECT_EQ(hub_.asked_for("model.safetensors"), 0);
  // What was left out then is fetched when it is needed.
  ASSERT_EQ(run({"inspect", name_, "-q"}).exit_code, 0);
  EXPECT_EQ(hub_.asked_for("model.safetensors"), 1);
}

TEST_F(HubModel, PullSaysWhereItLies) {
  const Result pulled = run({"pull", "someone/small-model", "-q"});
  ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
  const std::string path = pulled.out.substr(0, pulled.out.find('\n'));
  EXPECT_EQ(read_text(path + "/model.safetensors"), read_text(directory_ + "/model.safetensors"));
  EXPECT_EQ(pulled.err, "");
}

TEST_F(HubModel, AKillInTheMiddleIsGoneOnFrom) {
  // Slow after three quarters, so that the kill comes before the end.
  hub_.set_fault("model.safetensors", [](const hub::HttpRequest&, int n, hub::HttpAnswer& answer) {
    if (n == 0) answer.drop_after = 15'000'000;
    if (n == 1) std::this_thread::sleep_for(std::chrono::seconds(2));
  });
  Program program({"pull", name_, "-q"}, "", environment_);
  for (int i = 0; i < 500 && hub_.asked_for("model.safetensors") < 2 && program.running(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(program.running());
  program.signal(SIGKILL);
  program.wait();
  const Result pulled = run({"pull", name_, "-q"});
  ASSERT_EQ(pulled.exit_code, 0) << pulled.err;
  EXPECT_EQ(read_text(pulled.out.substr(0, pulled.out.find('\n')) + "/model.safetensors"),
            read_text(directory_ + "/model.safetensors"));
  std::string last;
  for (const hub::HttpRequest& request : hub_.server().requests()) {
    if (request.path.ends_with("model.safetensors") && request.headers.contains("range"))
      last = request.headers.at("range");
  }
  EXPECT_EQ(last, "bytes=15000000-");
}

TEST_F(HubModel, WhatIsNotThereIsSaid) {
  const Result missing = run({"inspect", "hf:someone/else"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_NE(missing.err.find("hf:someone/else"), std::string::npos) << missing.err;
  EXPECT_NE(missing.err.find("404"), std::string::npos) << missing.err;
  const Result bad = run({"inspect", "hf:../../etc"});
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_NE(bad.err.find("OWNER/NAME"), std::string::npos) << bad.err;
}

}  // namespace
}  // namespace shoehorn::test
