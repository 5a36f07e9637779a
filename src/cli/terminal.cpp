#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/cleanup.h"
#include "base/mapped_file.h"
#include "cli/command.h"

namespace shoehorn::cli {
namespace {

std::atomic<int> interrupts{0}, terminations{0};

void on_signal(int signal) {
  const bool first = !interrupted();
  (signal == SIGINT ? interrupts : terminations).fetch_add(1);
  if (first) return;
  remove_registered_files();
  _exit(130);
}

using Clock = std::chrono::steady_clock;

std::string format_duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
}

class TerminalProgress : public Progress {
 public:
  TerminalProgress() : terminal_(isatty(STDERR_FILENO) != 0), quiet_(common().quiet) {}
  ~TerminalProgress() override { clear_line(); }

  void begin(std::string_view stage, uint64_t total) override {
    stage_ = stage;
    total_ = std::max<uint64_t>(1, total);
    done_ = 0;
    start_ = last_ = Clock::now();
    shown_ = false;
  }

  void advance(uint64_t units) override {
    done_ += units;
    if (quiet_) return;
    const auto now = Clock::now();
    const double interval = terminal_ ? 0.1 : 10;
    const double elapsed = seconds_since(start_, now);
    // Work that is over within a second needs no bar.
    if (elapsed < 1 || seconds_since(last_, now) < interval) return;
    last_ = now;
    show(elapsed);
  }

  void end() override { clear_line(); }

  void note(std::string_view text) override {
    if (quiet_) return;
    clear_line();
    fmt::print(stderr, "{}\n", text);
  }

  bool cancelled() const override { return interrupted(); }

 private:
  static double seconds_since(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  }

  void show(double elapsed) {
    const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    const std::string eta = share > 0 ? format_duration(elapsed / share - elapsed) : "?";
    if (!terminal_) {
      fmt::print(stderr, "{}: {:.0f}%, {} left\n", stage_, share * 100, eta);
      return;
    }
    constexpr int kWidth = 30;
    const int filled = static_cast<int>(std::lround(share * kWidth));
    fmt::print(stderr, "\r\033[K{} [{:#<{}}{:.<{}}] {:3.0f}%  {} left", stage_, "", filled, "", kWidth - filled,
               share * 100, eta);
    std::fflush(stderr);
    shown_ = true;
  }

  void clear_line() {
    if (!shown_) return;
    std::fputs("\r\033[K", stderr);
    shown_ = false;
  }

  bool terminal_, quiet_, shown_ = false;
  std::string stage_;
  uint64_t total_ = 1, done_ = 0;
  Clock::time_point start_, last_;
};

}  // namespace

std::unique_ptr<Progress> make_progress() { return std::make_unique<TerminalProgress>(); }

bool interrupted() {
  return interrupts.load(std::memory_order_relaxed) + terminations.load(std::memory_order_relaxed) > 0;
}
void clear_interrupt() { interrupts.store(0); }

namespace {

/// A mapped file that became shorter, or a disk that cannot read it: an error like others, only that no call returns it.
void on_bus_error(int, siginfo_t* info, void*) {
  const auto say = [](const char* text) {
    if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
  };
  const char* const path = mapped_path_at(info->si_addr);
  say("shoehorn: ");
  say(path != nullptr ? path : "a mapped file");
  say(": cannot be read any more: it became shorter while it was open, or its disk fails\n");
  remove_registered_files();
  ::_exit(kExitFailed);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction on_bus = {};
  on_bus.sa_sigaction = on_bus_error;
  sigemptyset(&on_bus.sa_mask);
  on_bus.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &on_bus, nullptr);
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // blocking reads return, so that a prompt can be left
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

void print(const std::string& text) { fmt::print("{}\n", text); }

void print_json(const Json& json) { fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace)); }

void remark(const std::string& text) {
  if (!common().quiet) fmt::print(stderr, "{}\n", text);
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  const auto numeric = [](const std::string& cell) {
    return !cell.empty() && (std::isdigit(static_cast<unsigned char>(cell[0])) != 0 || cell[0] == '-');
  };
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const bool right = numeric(row[i]);
      line += right ? fmt::format("{:>{}}", row[i], widths[i]) : fmt::format("{:<{}}", row[i], widths[i]);
      line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::vector<std::string> rewrite_flags(int argc, char** argv) {
  static constexpr std::pair<std::string_view, std::string_view> kFlags[] = {
      {"-cnv", "--conversation"},  {"-no-cnv", "--no-conversation"}, {"-ngl", "--n-gpu-layers"},
      {"-ctk", "--cache-type-k"},  {"-ctv", "--cache-type-v"},       {"-np", "--parallel"},
      {"-sys", "--system-prompt"}, {"-tb", "--threads-batch"},       {"-ub", "--ubatch-size"},
      {"-pg", "--prompt-gen"},     {"-Cr", "--cpu-range"},           {"-jf", "--json-schema-file"},
  };
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    for (const auto& [from, to] : kFlags) {
      if (argument == from) argument = to;
    }
    arguments.push_back(std::move(argument));
  }
  return arguments;
}

Status refuse_same_file(const std::string& input, const std::string& output) {
  std::error_code ignored;
  if (!std::filesystem::equivalent(input, output, ignored)) return {};
  return fail(ErrorCode::kInvalid, "{}: input and output are the same file", output);
}

}  // namespace shoehorn::cli
