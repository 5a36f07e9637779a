// A model's way to a device, over a real sshd on this machine.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/json.h"
#include "base/subprocess.h"
#include "cli/program.h"
#include "support/support.h"

namespace shoehorn::test {
namespace {
namespace fs = std::filesystem;

void must(const std::vector<std::string>& words) {
  const auto done = run_program(words, std::chrono::seconds(60));
  ASSERT_TRUE(done.has_value()) << done.error().message;
}

int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

/// An sshd of this user's, a package with the program under test, and a model.
class Deploy : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists("/usr/sbin/sshd")) GTEST_SKIP() << "there is no sshd (openssh-server)";
    must({"ssh-keygen", "-qt", "ed25519", "-N", "", "-f", dir_ + "/key"});
    must({"ssh-keygen", "-qt", "ed25519", "-N", "", "-f", dir_ + "/host"});
    if (geteuid() == 0) fs::create_directories("/run/sshd");
    write_text(dir_ + "/conf",
               fmt::format("Port {}\nListenAddress 127.0.0.1\nHostKey {}/host\nAuthorizedKeysFile {}/key.pub\n"
                           "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n",
                           port_, dir_, dir_));
    sshd_ = fork();
    if (sshd_ == 0) {
      execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-D", "-f", (dir_ + "/conf").c_str(), "-E", (dir_ + "/log").c_str(),
            nullptr);
      _exit(127);
    }
    for (int i = 0; i < 100; ++i) {
      if (fs::exists(dir_ + "/log") && read_text(dir_ + "/log").find("listening") != std::string::npos) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    fs::create_directories(dir_ + "/tree/DEBIAN");
    fs::create_directories(dir_ + "/tree/usr/bin");
    write_text(dir_ + "/tree/DEBIAN/control",
               "Package: shoehorn\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@localhost>\nDescription: "
               "a test\n");
    fs::copy(SHOEHORN_BINARY, dir_ + "/tree/usr/bin/shoehorn");
    must({"dpkg-deb", "-Znone", "--build", dir_ + "/tree", dir_ + "/package.deb"});
    fs::create_directory(dir_ + "/run");
    ASSERT_EQ(run({"quantize", source_dir() + "/models/fable-10m", model_, "Q4_0", "--no-check", "-q"}).exit_code, 0);
  }
  void TearDown() override {
    if (sshd_ <= 0) return;
    kill(sshd_, SIGTERM);
    waitpid(sshd_, nullptr, 0);
  }

  std::vector<std::string> command(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"deploy", user() + "@127.0.0.1", model_,  "--port",         std::to_string(port_),
                                      "-i",     dir_ + "/key",         "--dir", dir_ + "/device", "--json",
                                      "-q"};
    for (const char* option :
         {"StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"})
      words.insert(words.end(), {"--ssh-option", "-o", "--ssh-option", option});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::vector<std::string> copy_only() const { return command({"--package", dir_ + "/package.deb", "--no-bench"}); }
  std::string there() const { return dir_ + "/device/fable.gguf"; }
  static std::string user() { return getpwuid(geteuid())->pw_name; }

  /// An ssh that does something else with the words of a copy the first time; PATH has it first.
  std::map<std::string, std::string> with_ssh(const std::string& instead) const {
    const auto ssh = find_program("ssh");
    fs::create_directory(dir_ + "/bin");
    write_text(dir_ + "/bin/ssh", "#!/bin/sh\nfor last; do :; done\ncase $last in *'cat >'*fable*) if [ ! -e " + dir_ +
                                      "/once ]; then touch " + dir_ + "/once; " + instead + "; fi;; esac\nexec " +
                                      *ssh + " \"$@\"\n");
    fs::permissions(dir_ + "/bin/ssh", fs::perms::owner_all);
    return {{"PATH", dir_ + "/bin:" + std::getenv("PATH")}, {"REAL_SSH", *ssh}};
  }

  const std::string dir_ = temp_dir(), model_ = dir_ + "/run/fable.gguf";
  const int port_ = free_port();
  pid_t sshd_ = -1;
};

TEST_F(Deploy, BringsAModelAndTheFiguresBack) {
  const Result result =
      run(command({"--package", dir_ + "/package.deb", "--quick", "-p", "64", "-n", "16", "-r", "1"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = parse_json(result.out);
  ASSERT_TRUE(json.has_value()) << result.out;
  EXPECT_EQ(read_bytes(there()), read_bytes(model_));
  EXPECT_EQ((*json)["bytes"], fs::file_size(model_));
  EXPECT_EQ((*json)["resumed_at"], 0);
  for (const char* figure :
       {"tokens_per_second", "predicted_tokens_per_second", "ttft_s", "predicted_ttft_s", "ttlt_s", "peak_rss"})
    EXPECT_GT((*json)[figure], 0) << figure;
  EXPECT_EQ((*json)["program"], dir_ + "/device/program/usr/bin/shoehorn");
  // The page of the run has them.
  const std::string page = read_text(dir_ + "/run/report.html");
  EXPECT_NE(page.find("fable"), std::string::npos);
  EXPECT_NE(page.find("bench-127.0.0.1"), std::string::npos);
  EXPECT_TRUE(fs::exists(dir_ + "/run/records/deploy-127.0.0.1.json"));

  // What is there is not brought again.
  const Result again = run(copy_only());
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ((*parse_json(again.out))["resumed_at"], fs::file_size(model_));
}

TEST_F(Deploy, GoesOnWhereItStopped) {
  const std::string whole = read_text(model_);
  fs::create_directory(dir_ + "/device");
  write_text(there() + ".part", whole.substr(0, 1'000'000));
  const Result result = run(copy_only());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ((*parse_json(result.out))["resumed_at"], 1'000'000);
  EXPECT_EQ(read_text(there()), whole);
  EXPECT_FALSE(fs::exists(there() + ".part"));

  // What is not the file's beginning is not gone on from, and an old file gives way.
  write_text(there(), "an old model");
  write_text(there() + ".part", std::string(1'000'000, 'x'));
  const Result fresh = run(copy_only());
  ASSERT_EQ(fresh.exit_code, 0) << fresh.err;
  EXPECT_EQ((*parse_json(fresh.out))["resumed_at"], 0);
  EXPECT_EQ(read_text(there()), whole);
}

TEST_F(Deploy, AConnectionThatBreaksIsMadeAgain) {
  Program program(copy_only(), "", with_ssh("head -c 700000 | $REAL_SSH \"$@\"; exit 255"));
  const Result result = program.wait();
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::exists(dir_ + "/once")) << "nothing broke";
  EXPECT_EQ(read_bytes(there()), read_bytes(model_));
}

TEST_F(Deploy, WhatArrivesAsSomethingElseIsRemoved) {
  Program program(copy_only(), "", with_ssh("tr a b | $REAL_SSH \"$@\"; exit 0"));
  const Result result = program.wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("arrived"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(there()));
  EXPECT_FALSE(fs::exists(there() + ".part"));
}

TEST_F(Deploy, SaysWhatIsMissing) {
  const Result no_package = run(command({"--no-bench", "--package", dir_ + "/nothing.deb"}));
  EXPECT_EQ(no_package.exit_code, 1);
  EXPECT_NE(no_package.err.find("nothing.deb"), std::string::npos) << no_package.err;
  auto words = copy_only();
  words[1] = "-oProxyCommand=true";
  words.insert(words.begin() + 1, "--");
  EXPECT_NE(run({"deploy", "-q", "--", "-oProxyCommand=true", model_}).err.find("no host"), std::string::npos);
  const Result no_model = run({"deploy", "nobody@127.0.0.1", dir_ + "/conf", "-q"});
  EXPECT_EQ(no_model.exit_code, 1);
  EXPECT_NE(no_model.err.find("conf"), std::string::npos);
  // A key that the host does not know.
  must({"ssh-keygen", "-qt", "ed25519", "-N", "", "-f", dir_ + "/other"});
  auto stranger = copy_only();
  *std::find(stranger.begin(), stranger.end(), dir_ + "/key") = dir_ + "/other";
  stranger.insert(stranger.end(), {"--ssh-option", "-o", "--ssh-option", "IdentitiesOnly=yes"});
  const Result refused = run(stranger);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("127.0.0.1"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(there()));
}

}  // namespace
}  // namespace shoehorn::test
