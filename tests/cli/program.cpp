#include "cli/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "support/support.h"

namespace shoehorn::test {

Program::Program(std::vector<std::string> arguments, const std::string& input, const std::map<std::string, std::string>& environment,
                 const std::function<void()>& in_child)
    : dir_(temp_dir()) {
  write_text(dir_ + "/in", input);
  pid_ = fork();
  if (pid_ != 0) return;
  const auto redirect = [](const std::string& path, int flags, int target) {
    const int fd = open(path.c_str(), flags, 0644);
    dup2(fd, target);
  };
  redirect(dir_ + "/in", O_RDONLY, STDIN_FILENO);
  redirect(dir_ + "/out", O_WRONLY | O_CREAT, STDOUT_FILENO);
  redirect(dir_ + "/err", O_WRONLY | O_CREAT, STDERR_FILENO);
  if (in_child) in_child();
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> argv = {const_cast<char*>(SHOEHORN_BINARY)};
  for (auto& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(SHOEHORN_BINARY, argv.data());
  _exit(127);
}

Program::~Program() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Result Program::wait() {
  int status = 0;
  rusage usage = {};
  wait4(pid_, &status, 0, &usage);
  pid_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_text(dir_ + "/out"), read_text(dir_ + "/err"),
          usage.ru_maxrss};
}

void Program::signal(int number) const { kill(pid_, number); }

bool Program::running() const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

std::vector<std::string> Program::open_files() const {
  std::vector<std::string> out;
  std::error_code error;
  const std::filesystem::path directory = "/proc/" + std::to_string(pid_) + "/fd";
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    if (const auto target = std::filesystem::read_symlink(it->path(), gone); !gone) out.push_back(target);
  }
  return out;
}

Result run(std::vector<std::string> arguments, const std::string& input) { return Program(std::move(arguments), input).wait(); }

}  // namespace shoehorn::test
