#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
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

}  // namespace

Expected<std::string> run_program(const std::vector<std::string>& arguments, std::chrono::milliseconds timeout,
                                  size_t max_bytes) {
  const std::string& name = arguments.front();
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
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
  if (text && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
    return fail(ErrorCode::kIo, "{} {} {}", name, WIFEXITED(status) ? "exits with" : "dies of signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
  }
  return text;
}

}  // namespace shoehorn
