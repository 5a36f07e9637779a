#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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

Expected<std::string> run_in_front(const std::vector<std::string>& arguments, FunctionRef<bool()> cancelled, size_t max_bytes) {
  constexpr int kPollMs = 100, kNoProgram = 127;
  const std::string& name = arguments.front();
  if (access(name.c_str(), X_OK) != 0) return fail(ErrorCode::kNotFound, "{}: {}", name, std::strerror(errno));
  const std::vector<char*> argv = argv_of(arguments);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  const pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    // Between fork and exec only what is safe in a signal handler. The parent may be gone before the wish is known.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(kNoProgram);
    const int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    execv(argv[0], argv.data());
    _exit(kNoProgram);
  }
  close(ends[1]);
  std::string text;
  bool stopped = false;
  for (bool open = pid > 0; open;) {
    if (!stopped && (cancelled() || text.size() > max_bytes)) stopped = kill(pid, SIGTERM) == 0;
    pollfd wait = {.fd = ends[0], .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, kPollMs) <= 0) continue;
    char buffer[1 << 16];
    const ssize_t n = read(ends[0], buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    open = n > 0;
    if (n > 0 && text.size() <= max_bytes) text.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  if (pid < 0) return fail(ErrorCode::kIo, "{}: {}", name, std::strerror(errno));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (stopped && text.size() <= max_bytes) return fail(ErrorCode::kCancelled, "stopped");
  if (text.size() > max_bytes) return fail(ErrorCode::kIo, "{} writes more than {} bytes", name, max_bytes);
  SHOEHORN_RETURN_IF_ERROR(check_exit(name, status));
  return text;
}

}  // namespace shoehorn
