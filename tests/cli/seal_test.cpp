// Sealed and signed models, as users have them.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "cli/program.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn {
namespace {

namespace fs = std::filesystem;
using test::Program;
using test::Result;
using test::run;

class Seal : public testing::Test {
 protected:
  void SetUp() override {
    const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
    ASSERT_EQ(run({"convert", checkpoint.directory, gguf_, "-q"}).exit_code, 0);
    const Result sealed = run({"seal", gguf_, sealed_, "--key", key_, "--new-key"});
    ASSERT_EQ(sealed.exit_code, 0) << sealed.err;
  }
  std::vector<std::string> generate(const std::string& model) {
    return {"run", "-m", model, "-p", "a b", "-n", "6", "--temp", "0", "--no-conversation", "-q"};
  }
  const std::string dir_ = test::temp_dir(), gguf_ = dir_ + "/model.gguf", sealed_ = dir_ + "/model.sealed",
                    key_ = dir_ + "/key";
};

TEST_F(Seal, ASealedModelRunsWithItsKeyAndNotWithout) {
  const Result plain = run(generate(gguf_));
  auto with_key = generate(sealed_);
  with_key.insert(with_key.end(), {"--seal-key", key_});
  const Result sealed = run(with_key);
  EXPECT_EQ(sealed.exit_code, 0) << sealed.err;
  EXPECT_EQ(sealed.out, plain.out);
  const Result by_environment = Program(generate(sealed_), "", {{"SHOEHORN_SEAL_KEY", key_}}).wait();
  EXPECT_EQ(by_environment.out, plain.out) << by_environment.err;

  const Result without = run(generate(sealed_));
  EXPECT_EQ(without.exit_code, 1);
  EXPECT_NE(without.err.find("--seal-key"), std::string::npos) << without.err;
  ASSERT_EQ(run({"seal", gguf_, dir_ + "/other.sealed", "--key", dir_ + "/other", "--new-key"}).exit_code, 0);
  const Result wrong = run({"verify", sealed_, "--seal-key", dir_ + "/other"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.err.find("another key"), std::string::npos) << wrong.err;
  EXPECT_EQ(run({"verify", sealed_, "--seal-key", key_}).exit_code, 0);
}

TEST_F(Seal, NothingElseIsWrittenWhileASealedModelRuns) {
  const auto listing = [&] {
    std::vector<std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(dir_)) out.push_back(entry.path().string());
    std::sort(out.begin(), out.end());
    return out;
  };
  const auto before = listing();
  auto command = generate(sealed_);
  command[6] = "200";
  command.insert(command.end(), {"--seal-key", key_, "-c", "256"});
  Program program(command);
  for (int i = 0; i < 50 && program.running(); ++i) {
    for (const std::string& open : program.open_files()) {
      EXPECT_TRUE(open.find("(deleted)") == std::string::npos || open.find("shoehorn-test") == std::string::npos)
          << open;
    }
  }
  EXPECT_EQ(program.wait().exit_code, 0);
  EXPECT_EQ(listing(), before);
}

TEST_F(Seal, UnsealingGivesTheFileBack) {
  ASSERT_EQ(run({"unseal", sealed_, dir_ + "/out.gguf", "--key", key_}).exit_code, 0);
  EXPECT_EQ(test::read_bytes(dir_ + "/out.gguf"), test::read_bytes(gguf_));
  auto bytes = test::read_bytes(sealed_);
  bytes[bytes.size() / 2] ^= std::byte{1};
  test::write_bytes(sealed_, bytes);
  const Result changed = run({"unseal", sealed_, dir_ + "/out.gguf", "--key", key_});
  EXPECT_EQ(changed.exit_code, 1);
  EXPECT_NE(changed.err.find("was changed after it was sealed"), std::string::npos) << changed.err;
  EXPECT_EQ(test::read_bytes(dir_ + "/out.gguf"), test::read_bytes(gguf_)) << "what was there stays";
  EXPECT_EQ(run({"seal", gguf_, gguf_, "--key", key_}).exit_code, 1);
  EXPECT_EQ(run({"seal", gguf_, dir_ + "/x", "--key", key_, "--new-key"}).exit_code, 1) << "keys are not overwritten";
}

TEST_F(Seal, VerifyWantsTheSignersKey) {
  ASSERT_EQ(run({"sign", gguf_, "--key", dir_ + "/signer", "--new-key", "--comment", "of may"}).exit_code, 0);
  const Result good = run({"verify", gguf_, "--key", dir_ + "/signer.pub", "--json"});
  ASSERT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(Json::parse(good.out)["signature"]["comment"], "of may");
  ASSERT_EQ(run({"sign", sealed_, "--key", dir_ + "/forger", "--new-key"}).exit_code, 0);
  const Result forged = run({"verify", sealed_, "--key", dir_ + "/signer.pub", "--seal-key", key_, "--json"});
  EXPECT_EQ(forged.exit_code, 1);
  EXPECT_NE(forged.err.find("signed it, not"), std::string::npos) << forged.err;
  EXPECT_EQ(Json::parse(forged.out)["ok"], false);
  EXPECT_EQ(run({"verify", dir_ + "/key", "--key", dir_ + "/signer.pub"}).exit_code, 1) << "it is not signed";
}

}  // namespace
}  // namespace shoehorn
