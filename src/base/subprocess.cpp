#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

extern char** environ;

namespace shoehorn {
namespace {

using Clock = std::chrono::steady_clock;

/// Everything up to the end of the stream, or the reason why not.
Expected<std::string> read_all(int fd, Clock::time_point deadline, size_t max_bytes, const std::string& name) {
  std::string text;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = left > 0 ? poll(&wait, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return fail(ErrorCode::kIo, "{} does not answer in time", name);
    char buffer[4096];
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > max_bytes) return fail(ErrorCode::kIo, "{} writes more than {} bytes", name, max_bytes);
  }
}

/// As exec wants it, pointing into `arguments`.
std::vector<char*> argv_of(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  return argv;
}

/// What waitpid said: fails unless the program ended by itself with 0.
Status check_exit(const std::string& name, int status) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return fail(ErrorCode::kIo, "{} {} {}", name, WIFEXITED(status) ? "exits with" : "dies of signal",
              WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

}  // namespace

Expected<std::string> run_program(const std::vector<std::string>& arguments, std::chrono::milliseconds timeout,
                                  size_t max_bytes) {
  const std::string& name = arguments.front();
  const std::vector<char*> argv = argv_of(arguments);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, name.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error != 0) {
    close(ends[0]);
    return fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: {}", name, std::strerror(error));
  }
  auto text = read_all(ends[0], Clock::now() + timeout, max_bytes, name);
  close(ends[0]);
  int status = 0;
  // A tool that hangs in a driver may not end at all: it is not waited for.
  while (waitpid(pid, &status, text ? 0 : WNOHANG) < 0 && errno == EINTR) continue;
  if (text) SHOEHORN_RETURN_IF_ERROR(check_exit(name, status));
  return text;
}

Expected<std::string> run_in_front(const std::vector<std::string>& arguments, FunctionRef<bool()> cancelled,
                                   const Feed* feed, size_t max_bytes) {
  constexpr int kPollMs = 100, kNoProgram = 127;
  constexpr size_t kSendBytes = 1 << 16;
  const std::string& name = arguments.front();
  if (access(name.c_str(), X_OK) != 0) return fail(ErrorCode::kNotFound, "{}: {}", name, std::strerror(errno));
  const std::vector<char*> argv = argv_of(arguments);
  // A socket, because writing to a pipe that nobody reads any more would end this process.
  int out[2], in[2] = {-1, -1};
  if (pipe2(out, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  if (feed != nullptr && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) != 0) {
    close(out[0]);
    close(out[1]);
    return fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  }
  const pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    // Between fork and exec only what is safe in a signal handler. The parent may be gone before the wish is known.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(kNoProgram);
    dup2(feed != nullptr ? in[1] : open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    execv(argv[0], argv.data());
    _exit(kNoProgram);
  }
  close(out[1]);
  if (feed != nullptr) close(in[1]);
  std::span<const std::byte> left = feed != nullptr ? feed->bytes : std::span<const std::byte>();
  const auto hang_up = [&] {
    if (in[0] >= 0) close(in[0]);
    in[0] = -1;
  };
  std::string text;
  bool stopped = false;
  for (bool open = pid > 0; open;) {
    if (!stopped && (cancelled() || text.size() > max_bytes)) stopped = kill(pid, SIGTERM) == 0;
    if (left.empty()) hang_up();
    pollfd wait[] = {{.fd = out[0], .events = POLLIN, .revents = 0}, {.fd = in[0], .events = POLLOUT, .revents = 0}};
    if (poll(wait, 2, kPollMs) <= 0) continue;
    if (wait[1].revents != 0) {
      const ssize_t n = send(in[0], left.data(), std::min(left.size(), kSendBytes), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) {
        left = left.subspan(static_cast<size_t>(n));
        feed->sent(static_cast<size_t>(n));
      } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
        left = {};  // nobody reads it any more; the exit code says why
      }
    }
    if (wait[0].revents == 0) continue;
    char buffer[1 << 16];
    const ssize_t n = read(out[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    open = n > 0;
    if (n > 0 && text.size() <= max_bytes) text.append(buffer, static_cast<size_t>(n));
  }
  hang_up();
  close(out[0]);
  if (pid < 0) return fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (stopped && text.size() <= max_bytes) return fail(ErrorCode::kCancelled, "stopped");
  if (text.size() > max_bytes) return fail(ErrorCode::kIo, "{} writes more than {} bytes", name, max_bytes);
  SHOEHORN_RETURN_IF_ERROR(check_exit(name, status));
  return text;
}

Expected<std::string> find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string file = (folder.empty() ? "." : folder) + "/" + name;
    if (access(file.c_str(), X_OK) == 0) return file;
  }
  return fail(ErrorCode::kNotFound, "there is no {} in PATH", name);
}

std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_of(" \t\n'\"\\$`*?[](){}<>|&;#~!") == word.npos;
  if (plain) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace shoehorn
