// What every command needs: its row in the table, its options, its way of reporting.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/status.h"

namespace shoehorn::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

/// A row of commands.inc. `define` adds the command's options to its parser and returns the work, run after parsing;
/// nullptr: the command is shoehorn-workshop's.
struct Command {
  const char* name;
  const char* summary;
  std::function<Status()> (*define)(CLI::App& app);
};

std::span<const Command> commands();

/// Starts the same command line over in shoehorn-workshop. Returns only when that is not there.
Status hand_over_to_workshop();

/// Options that all commands share, filled in before the work runs.
struct CommonOptions {
  bool quiet = false;
  std::string i2s_layout;  ///< see io/i2s.h; the same commands have the option
  std::string seal_key;  ///< where the key of sealed models is; commands that read models have the option
};
CommonOptions& common();

/// Progress on stderr: a bar on a terminal, plain lines otherwise, nothing with -q. Ctrl-C asks the work to stop.
std::unique_ptr<Progress> make_progress();

/// True once the user pressed Ctrl-C (SIGINT) or the process was asked to end (SIGTERM).
bool interrupted();
/// Forgets Ctrl-C, not that the process was asked to end.
void clear_interrupt();
/// Installs the handlers: the first signal sets interrupted(), the second removes temporary files and exits with 130.
void install_signal_handlers();

/// Fails when both paths name one file that is there.
Status refuse_same_file(const std::string& input, const std::string& output);

/// Text to stdout, followed by a newline.
void print(const std::string& text);
/// One JSON object to stdout.
void print_json(const Json& json);
/// A remark to stderr unless -q.
void remark(const std::string& text);

/// A table with aligned columns; the first row is the header, numbers are right-aligned.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

/// Rewrites llama.cpp's long single-dash flags (-ngl, -no-cnv, -ctk ...) to the double-dash names that the parser
/// knows.
std::vector<std::string> rewrite_flags(int argc, char** argv);

}  // namespace shoehorn::cli
