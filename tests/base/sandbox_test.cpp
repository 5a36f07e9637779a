#include "base/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <thread>

#include "support/support.h"

namespace shoehorn {
namespace {

/// What a process in a sandbox can do; each gives errno, or 0.
int error_of(bool ok) { return ok ? 0 : errno; }
int opens(const std::string& path, int flags = O_RDONLY) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0600);
  const int error = error_of(fd >= 0);
  if (fd >= 0) close(fd);
  return error;
}
int starts_a_program() {
  const char* const argv[] = {"/bin/true", nullptr};
  execv(argv[0], const_cast<char**>(argv));
  return errno;
}
int forks() {
  const pid_t pid = fork();
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid(pid, nullptr, 0);
  return error_of(pid >= 0);
}
int connects(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int error = error_of(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  close(fd);
  return error;
}
int makes_code() {
  void* const p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return error_of(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
}
/// Of a thread that is started now.
template <class Do>
int in_a_thread(Do todo) {
  int result = -1;
  std::thread([&] { result = todo(); }).join();
  return result;
}

constexpr int kNothingOffered = 77;

/// The number of the first line that failed, in a process of its own; 0 when none did. It must not use what a sandbox
/// may take from gtest.
#define REQUIRE(condition) \
  if (!(condition)) _exit(__LINE__ % 251 + 1)

class SandboxTest : public testing::Test {
 protected:
  void in_child(const std::function<void()>& todo) {
    const pid_t pid = fork();
    if (pid == 0) {
      todo();
      _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    if (WEXITSTATUS(status) == kNothingOffered) GTEST_SKIP() << "this kernel offers no sandbox";
    EXPECT_EQ(WEXITSTATUS(status), 0) << "the check on a line of this file that is this modulo 251, plus 1";
  }
};

TEST_F(SandboxTest, WhileReadingOnlyWhatWasNamedIsRead) {
  const std::string mine = test::temp_dir(), others = test::temp_dir();
  std::filesystem::create_directories(mine + "/below");
  for (const std::string& path : {mine + "/below/a", others + "/b", others + "/c"}) test::write_text(path, "x");
  in_child([&] {
    const auto sandbox = enter_reading_sandbox({mine, others + "/c", "/no/such/file"});
    REQUIRE(sandbox.has_value());
    if (!sandbox->files && !sandbox->programs) _exit(kNothingOffered);
    if (sandbox->files) {
      REQUIRE(opens(mine + "/below/a") == 0);
      REQUIRE(opens(others + "/c") == 0);
      REQUIRE(opens("/etc/passwd") == 0);
      REQUIRE(opens(others + "/b") == EACCES);
      REQUIRE(opens(others + "/c", O_WRONLY) == EACCES);
      REQUIRE(opens(mine + "/new", O_WRONLY | O_CREAT) == EACCES);
      REQUIRE(unlink((mine + "/below/a").c_str()) != 0 && errno == EACCES);
      REQUIRE(truncate((mine + "/below/a").c_str(), 0) != 0 && (errno == EACCES || errno == EPERM));
      REQUIRE(in_a_thread([&] { return opens(others + "/b"); }) == EACCES);
    }
    if (sandbox->connections) REQUIRE(connects(9) == EACCES);
    REQUIRE(sandbox->programs);
    const int error = starts_a_program();
    REQUIRE(error == EPERM || error == EACCES);
  });
}

TEST_F(SandboxTest, WhileServingNothingIsOpenedOrStarted) {
  const std::string mine = test::temp_dir();
  test::write_text(mine + "/a", "x");
  in_child([&] {
    std::atomic<int> step = 0, before = -1;
    const int held = open((mine + "/a").c_str(), O_RDONLY | O_CLOEXEC);
    std::thread earlier([&] {  // a thread that was there before loses the same
      while (step == 0) std::this_thread::yield();
      before = opens(mine + "/a");
    });
    const auto sandbox = enter_serving_sandbox();
    REQUIRE(sandbox.has_value());
    step = 1;
    earlier.join();
    if (!sandbox->files) _exit(kNothingOffered);
    REQUIRE(before == EPERM);
    REQUIRE(opens("/etc/passwd") == EPERM);
    REQUIRE(opens(mine + "/b", O_WRONLY | O_CREAT) == EPERM);
    REQUIRE(starts_a_program() == EPERM);
    REQUIRE(forks() == EPERM);
    REQUIRE(connects(9) == EPERM);
    REQUIRE(makes_code() == EPERM);
    REQUIRE(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0 && errno == EPERM);
    char byte = 0;
    REQUIRE(pread(held, &byte, 1, 0) == 1 && byte == 'x');
    REQUIRE(in_a_thread([] { return 5; }) == 5);
  });
}

TEST_F(SandboxTest, OneFollowsTheOther) {
  in_child([] {
    const auto first = enter_reading_sandbox({});
    REQUIRE(first.has_value());
    const auto second = enter_serving_sandbox();
    REQUIRE(second.has_value());
    if (!second->files) _exit(kNothingOffered);
    REQUIRE(opens("/etc/passwd") == EPERM);
  });
}

}  // namespace
}  // namespace shoehorn
