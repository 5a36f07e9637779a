// The chat on a terminal.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "base/json.h"
#include "cli/program.h"
#include "support/support.h"

namespace shoehorn {
namespace {

namespace fs = std::filesystem;

/// `shoehorn run` on a terminal of its own.
class Terminal {
 public:
  Terminal(const std::string& model, const std::string& home, std::vector<std::string> flags = {}) {
    std::vector<std::string> words = {SHOEHORN_BINARY, "run", "-m", model, "--temp", "0", "-c", "4096"};
    words.insert(words.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    winsize size = {.ws_row = 24, .ws_col = 200, .ws_xpixel = 0, .ws_ypixel = 0};
    pid_ = forkpty(&fd_, nullptr, nullptr, &size);
    if (pid_ == 0) {
      setenv("HOME", home.c_str(), 1);
      unsetenv("XDG_STATE_HOME");
      setenv("TERM", "xterm", 1);
      setenv("LC_ALL", "C", 1);
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Terminal() {
    if (pid_ < 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(fd_);
  }

  void send(int signal) const { kill(pid_, signal); }
  void type(std::string_view keys) const {
    EXPECT_EQ(write(fd_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }

  /// Reads until `text` has come, in what came since the last call; false after 30 seconds or at the end.
  bool shows(std::string_view text) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      if (const size_t found = screen_.find(text, seen_); found != std::string::npos) {
        seen_ = found + text.size();
        return true;
      }
      if (std::chrono::steady_clock::now() > end || !read_some(100)) return false;
    }
  }
  /// Waits for the program's end; -1 when 30 seconds do not bring it.
  int exit_code() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (read_some(100)) {
      if (std::chrono::steady_clock::now() > end) return -1;
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& screen() const { return screen_; }

 private:
  bool read_some(int milliseconds) {
    pollfd input = {.fd = fd_, .events = POLLIN, .revents = 0};
    if (poll(&input, 1, milliseconds) <= 0) return true;
    char buffer[4096];
    const ssize_t n = read(fd_, buffer, sizeof buffer);
    if (n <= 0) return false;
    screen_.append(buffer, static_cast<size_t>(n));
    return true;
  }

  int fd_ = -1;
  pid_t pid_ = -1;
  std::string screen_;
  size_t seen_ = 0;
};

class ChatOnATerminal : public ::testing::Test {
 protected:
  void SetUp() override {
    int master = -1, slave = -1;
    if (openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) {
      GTEST_SKIP() << "no terminal can be opened here (is /dev/pts mounted?): " << std::strerror(errno);
    }
    close(master);
    close(slave);
    const test::Result made =
        test::run({"quantize", test::source_dir() + "/models/fable-10m", model_, "Q8_0", "--no-check", "-q"});
    EXPECT_EQ(made.exit_code, 0) << made.err;
  }
  const std::string home_ = test::temp_dir(), model_ = home_ + "/model.gguf";
};

TEST_F(ChatOnATerminal, LinesThatArePastedAreOneMessageAndAreRemembered) {
  {
    Terminal terminal(model_, home_, {"-n", "5"});
    ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
    terminal.type("A first line\nand a second\n");
    ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
    terminal.type("one \\\n");
    terminal.type("two\n");
    ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
    terminal.type("/save " + home_ + "/a.json\n");
    ASSERT_TRUE(terminal.shows("4 messages")) << terminal.screen();
    terminal.type("/nonsense\n");
    ASSERT_TRUE(terminal.shows("no command /nonsense")) << "and the chat goes on: " << terminal.screen();
    terminal.type("\x04");
    EXPECT_EQ(terminal.exit_code(), 0) << terminal.screen();
  }
  const Json saved = Json::parse(test::read_text(home_ + "/a.json"));
  EXPECT_EQ(saved[0]["content"], "A first line\nand a second");
  EXPECT_EQ(saved[2]["content"], "one \ntwo");
  const std::string history = home_ + "/.local/state/shoehorn/history";
  ASSERT_TRUE(fs::exists(history));
  EXPECT_EQ(fs::status(history).permissions() & (fs::perms::group_all | fs::perms::others_all), fs::perms::none);
  // The next chat has it on the arrow key.
  Terminal terminal(model_, home_, {"-n", "5"});
  ASSERT_TRUE(terminal.shows("> "));
  terminal.type("\033[A");
  EXPECT_TRUE(terminal.shows("/nonsense")) << terminal.screen();
}

const std::vector<std::string> kLongAnswer = {"--grammar", "root ::= \"An answer has begun\" [a-z]{50000}"};

TEST_F(ChatOnATerminal, CtrlCStopsTheAnswerOnly) {
  Terminal terminal(model_, home_, kLongAnswer);
  ASSERT_TRUE(terminal.shows("> "));
  terminal.type("Tell me a story\n");
  ASSERT_TRUE(terminal.shows("An answer has begun")) << terminal.screen();
  terminal.type("\x03");
  ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
  terminal.type("/stats\n");
  ASSERT_TRUE(terminal.shows("tok/s")) << terminal.screen();
  terminal.type("/exit\n");
  EXPECT_EQ(terminal.exit_code(), 0) << terminal.screen();
}

TEST_F(ChatOnATerminal, CtrlCDropsWhatWasTypedAndTwiceEndsTheChat) {
  Terminal terminal(model_, home_, {"-n", "5"});
  ASSERT_TRUE(terminal.shows("> "));
  terminal.type("/nonsense");
  ASSERT_TRUE(terminal.shows("/nonsense"));
  terminal.type("\x03");
  ASSERT_TRUE(terminal.shows("^C")) << terminal.screen();
  ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
  terminal.type("/stats\n");
  ASSERT_TRUE(terminal.shows("tok/s")) << "it was not added to: " << terminal.screen();
  ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
  terminal.type("\x03");
  ASSERT_TRUE(terminal.shows("once more")) << terminal.screen();
  ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
  terminal.type("\x03");
  EXPECT_EQ(terminal.exit_code(), 0) << terminal.screen();
}

TEST_F(ChatOnATerminal, EveryAlphabetCanBeTypedWhateverTheLocale) {
  Terminal terminal(model_, home_, {"-n", "5"});
  ASSERT_TRUE(terminal.shows("> "));
  terminal.type("Grüße, 世界 🦊x\x7f!\n");
  ASSERT_TRUE(terminal.shows("世界")) << terminal.screen();
  ASSERT_TRUE(terminal.shows("> ")) << terminal.screen();
  terminal.type("/save " + home_ + "/a.json\n");
  ASSERT_TRUE(terminal.shows("2 messages")) << terminal.screen();
  EXPECT_EQ(Json::parse(test::read_text(home_ + "/a.json"))[0]["content"], "Grüße, 世界 🦊!");
}

TEST_F(ChatOnATerminal, ARequestToEndStopsTheAnswerAndTheChat) {
  Terminal terminal(model_, home_, kLongAnswer);
  ASSERT_TRUE(terminal.shows("> "));
  terminal.type("Tell me a story\n");
  ASSERT_TRUE(terminal.shows("An answer has begun")) << terminal.screen();
  terminal.send(SIGTERM);
  EXPECT_EQ(terminal.exit_code(), 0) << terminal.screen();
}

TEST_F(ChatOnATerminal, TheEndMayBeTypedAhead) {
  Terminal terminal(model_, home_, {"-n", "200"});
  ASSERT_TRUE(terminal.shows("> "));
  terminal.type("Tell me a story\n");
  ASSERT_TRUE(terminal.shows("story\r\n")) << terminal.screen();
  terminal.type("\x04");
  EXPECT_EQ(terminal.exit_code(), 0) << "after the answer: " << terminal.screen();
}

TEST_F(ChatOnATerminal, ColoursAreForTerminalsThatWantThem) {
  Terminal terminal(model_, home_, {"-n", "5"});
  ASSERT_TRUE(terminal.shows("> "));
  EXPECT_NE(terminal.screen().find("\033[1;32m"), std::string::npos);
  const test::Result piped = test::run({"run", "-m", model_, "--temp", "0", "-n", "5"}, "Hello\n");
  EXPECT_EQ(piped.out.find('\033'), std::string::npos);
}

}  // namespace
}  // namespace shoehorn
