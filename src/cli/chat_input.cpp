#include "cli/chat_input.h"

#include <editline/readline.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>

#include "base/environment.h"

namespace shoehorn::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxHistory = 1000;
constexpr const char* kPrompt = "> ";
// Between the marks what takes no room on the screen.
constexpr const char* kColouredPrompt = "\1\033[1;32m\2> \1\033[0m\2";
constexpr const char* kMorePrompt = "";

std::string history_path() {
  const std::string state = environment("XDG_STATE_HOME"), home = environment("HOME");
  if (state.empty() && home.empty()) return "";
  const fs::path directory = (state.empty() ? fs::path(home) / ".local/state" : fs::path(state)) / "shoehorn";
  std::error_code error;
  fs::create_directories(directory, error);
  return error ? "" : (directory / "history").string();
}

/// Whether more has been typed, or pasted, already.
bool has_input() {
  pollfd input = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  return poll(&input, 1, 0) > 0 && (input.revents & POLLIN) != 0;
}

/// Whether stdout may be coloured: a terminal, and no NO_COLOR (no-color.org) in the environment.
bool may_colour() { return isatty(STDOUT_FILENO) != 0 && environment("NO_COLOR").empty(); }

}  // namespace

ChatInput::ChatInput() : terminal_(isatty(STDIN_FILENO) != 0) {
  if (!terminal_) return;
  using_history();
  stifle_history(kMaxHistory);
  history_ = history_path();
  if (!history_.empty()) read_history(history_.c_str());
  tcgetattr(STDIN_FILENO, &found_);
  // Between the lines the terminal would make an end of file of Ctrl-D, of which the next line sees a NUL at most.
  termios modes = found_;
  modes.c_cc[VEOF] = _POSIX_VDISABLE;
  tcsetattr(STDIN_FILENO, TCSANOW, &modes);
}

ChatInput::~ChatInput() {
  if (terminal_) tcsetattr(STDIN_FILENO, TCSANOW, &found_);
  if (history_.empty()) return;
  const mode_t before = umask(0077);
  write_history(history_.c_str());
  umask(before);
}

std::optional<std::string> ChatInput::read_line(const char* prompt) {
  if (!terminal_) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  if (ended_) return std::nullopt;
  const std::unique_ptr<char, decltype(&std::free)> line(readline(prompt), &std::free);
  ended_ = line == nullptr;
  if (ended_) return std::nullopt;
  return std::string(line.get());
}

std::optional<std::string> ChatInput::read() {
  auto message = read_line(may_colour() ? kColouredPrompt : kPrompt);
  if (!message || !terminal_) return message;
  for (;;) {
    const bool goes_on = message->ends_with('\\');
    if (goes_on) message->pop_back();
    if (!goes_on && !has_input()) break;
    const auto more = read_line(kMorePrompt);
    if (!more) break;
    *message += "\n" + *more;
  }
  if (!message->empty()) add_history(message->c_str());
  return message;
}

}  // namespace shoehorn::cli
