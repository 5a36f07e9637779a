// Little memory: a control group's limit is met, or the command says what it would take before the kernel ends it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cli/program.h"
#include "support/support.h"

namespace shoehorn::test {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

std::string fable() { return source_dir() + "/models/fable-10m"; }

/// A control group of this test's own, of version 2 or 1.
class Cgroup {
 public:
  explicit Cgroup(uint64_t bytes) {
    for (const auto& [parent, limit] :
         {std::pair{"/sys/fs/cgroup", "memory.max"}, std::pair{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}}) {
      if (!fs::exists(std::string(parent) + "/cgroup.procs")) continue;
      write(std::string(parent) + "/cgroup.subtree_control", "+memory");
      path_ = std::string(parent) + "/shoehorn-test-" + std::to_string(getpid());
      if (::mkdir(path_.c_str(), 0755) != 0 && errno != EEXIST) continue;
      there_ = write(path_ + "/" + limit, std::to_string(bytes));
      write(path_ + "/memory.swap.max", "0");
      if (there_) return;
      ::rmdir(path_.c_str());
    }
  }
  ~Cgroup() {
    for (int i = 0; there_ && i < 100 && ::rmdir(path_.c_str()) != 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  bool there() const { return there_; }
  void join() const { write(path_ + "/cgroup.procs", std::to_string(getpid())); }

 private:
  static bool write(const std::string& path, const std::string& text) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const bool ok = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    return ok;
  }
  std::string path_;
  bool there_ = false;
};

class LittleMemory : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = temp_dir();
    ASSERT_EQ(run({"quantize", fable(), dir_ + "/model.gguf", "Q4_K_M", "--no-check", "-q"}).exit_code, 0);
    ASSERT_EQ(run({"seal", dir_ + "/model.gguf", dir_ + "/model.sealed", "--key", dir_ + "/key", "--new-key", "-q"})
                  .exit_code,
              0);
  }

  /// In this much memory it works.
  void works(uint64_t mib, const Strings& command) {
    const Result result = in(mib, command);
    EXPECT_EQ(result.exit_code, 0) << mib << " MiB, " << command[0] << ": " << result.err;
  }
  /// In this much it does not, and says so, with numbers.
  void says(uint64_t mib, const Strings& command, const char* what) {
    const Result result = in(mib, command);
    EXPECT_EQ(result.exit_code, 1) << mib << " MiB, " << command[0] << ": " << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("iB"), std::string::npos) << result.err;
  }
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers take memory of their own";
#endif
    if (!Cgroup(uint64_t{1} << 30).there())
      GTEST_SKIP() << "only root may make a control group, where the kernel limits memory by them";
  }

  static Result in(uint64_t mib, const Strings& command) {
    const Cgroup group(mib << 20);
    return Program(command, "", {}, [&] { group.join(); }).wait();
  }
  static Strings generate(const char* model, const Strings& more) {
    Strings out = {"run", "-m", dir_ + "/" + model, "-p", "a", "-n", "3", "--no-conversation", "-q"};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  static inline std::string dir_;
};

TEST_F(LittleMemory, LoadingAndGenerating) {
  works(24, generate("model.gguf", {"-c", "256"}));
  says(64, generate("model.gguf", {"-c", "262144"}), "a context of 262144 tokens needs 512.00 MiB");
  says(4, generate("model.gguf", {"-c", "64", "--no-mmap"}), "a copy takes");
  works(32, generate("model.gguf", {"-c", "64", "--no-mmap"}));
  says(4, generate("model.sealed", {"-c", "64", "--seal-key", dir_ + "/key"}), "of memory");
  works(32, generate("model.sealed", {"-c", "64", "--seal-key", dir_ + "/key"}));
}

TEST_F(LittleMemory, ConvertingAndQuantizing) {
  works(24, {"convert", fable(), dir_ + "/f16.gguf", "-q"});
  works(48, {"quantize", fable(), dir_ + "/q.gguf", "Q4_K_M", "-q"});
  works(24, {"verify", dir_ + "/model.gguf"});
  works(48, {"imatrix", "-m", dir_ + "/model.gguf", "-f", fable() + "/eval.txt", "-c", "128", "--chunks", "4", "-o",
             dir_ + "/i.gguf", "-q"});
}

TEST_F(LittleMemory, Serving) {
  says(64, {"serve", "-m", dir_ + "/model.gguf", "-np", "64", "-c", "32768", "--port", "0"},
       "64 contexts of 32768 tokens need 4.00 GiB");
  const Cgroup group(uint64_t{48} << 20);
  Program server({"serve", "-m", dir_ + "/model.gguf", "-np", "2", "-c", "256", "--port", "0"}, "", {},
                 [&] { group.join(); });
  for (int i = 0; i < 50 && server.running(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(server.running()) << server.wait().err;
  server.signal(SIGINT);
  EXPECT_EQ(server.wait().exit_code, 0);
}

TEST_F(LittleMemory, Workshop) {
  if (!fs::exists(fs::path(SHOEHORN_BINARY).parent_path() / "shoehorn-workshop"))
    GTEST_SKIP() << "this build has no workshop";
  const auto prune = [](const char* out) {
    return Strings{"prune",     fable(),
                   "-o",        dir_ + "/" + out,
                   "--method",  "obs",
                   "--layers",  "1-3",
                   "--calib",   fable() + "/calib.txt",
                   "--samples", "4",
                   "--seq-len", "64",
                   "-q",        "-t",
                   "1"};
  };
  says(256, prune("no"), "this model takes about");
  EXPECT_FALSE(fs::exists(dir_ + "/no"));
  works(2048, prune("yes"));
  const auto gptq = [](const char* out) {
    return Strings{
        "quantize",  fable(), dir_ + "/" + out, "Q4_0", "--method",   "gptq", "--calib", fable() + "/calib.txt",
        "--samples", "4",     "--seq-len",      "64",   "--no-check", "-q",   "-t",      "1"};
  };
  says(128, gptq("no.gguf"), "takes about");
  EXPECT_FALSE(fs::exists(dir_ + "/no.gguf"));
  works(2048, gptq("yes.gguf"));
}

}  // namespace
}  // namespace shoehorn::test
