// shoehorn: fit a large language model into a small machine.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>

#include "base/cpu.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/recipe.h"

namespace shoehorn::cli {

// The same main in two programs: shoehorn, which a device gets, and shoehorn-workshop, which links libtorch and has all
// commands.
#ifdef SHOEHORN_WORKSHOP
#define SHOEHORN_WORKSHOP_COMMAND(name, summary) SHOEHORN_COMMAND(name, summary)
#endif

#define SHOEHORN_COMMAND(name, summary) std::function<Status()> define_##name(CLI::App& app);
#ifndef SHOEHORN_WORKSHOP
#define SHOEHORN_WORKSHOP_COMMAND(name, summary)
#endif
#include "cli/commands.inc"
#undef SHOEHORN_COMMAND
#ifndef SHOEHORN_WORKSHOP
#undef SHOEHORN_WORKSHOP_COMMAND
#define SHOEHORN_WORKSHOP_COMMAND(name, summary) {#name, summary, nullptr},
#endif

std::span<const Command> commands() {
  static constexpr Command kCommands[] = {
#define SHOEHORN_COMMAND(name, summary) {#name, summary, define_##name},
#include "cli/commands.inc"
#undef SHOEHORN_COMMAND
  };
  return kCommands;
}

CommonOptions& common() {
  static CommonOptions options;
  return options;
}

namespace {

/// The libraries below libtorch take such settings from the environment, before main(). What the user has set stays.
void set_up_torch() {
  // OpenMP's threads spin for milliseconds before they sleep: on a busy machine that takes the cores from those that
  // work.
  setenv("GOMP_SPINCOUNT", "20000", 0);
  // glibc maps every block of more than 32 MiB afresh and gives it back at once: of a pass over activations, half the
  // time went into clearing pages. Blocks of a matrix's size still are mapped, so that their memory goes back.
  setenv("MALLOC_MMAP_THRESHOLD_", "67108864", 0);
  setenv("MALLOC_TRIM_THRESHOLD_", "268435456", 0);
  // OpenBLAS goes by the CPU's model number and takes SSE3 for one that is newer than itself.
  const uint32_t features = cpu_features();
  if ((features & kCpuAvx512) != 0) {
    setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
  } else if ((features & kCpuAvx2) != 0) {
    setenv("OPENBLAS_CORETYPE", "Haswell", 0);
  }
}

char** g_argv;

int report(std::string_view command, const Error& error) {
  fmt::print(stderr, "shoehorn {}: {}\n", command, error.message);
  return error.code == ErrorCode::kCancelled ? 130 : kExitFailed;
}

int run(int argc, char** argv) {
  g_argv = argv;
  CLI::App app{"Fits a large language model into a small machine: checkpoint -> GGUF -> text.", "shoehorn"};
  app.require_subcommand(1);
  app.set_version_flag("--version", SHOEHORN_VERSION);
  app.footer("'shoehorn COMMAND --help' shows a command's options and examples.");

  std::vector<std::pair<CLI::App*, std::function<Status()>>> work;
  for (const Command& command : commands()) {
    if (command.define == nullptr) {
      if (argc > 1 && argv[1] == std::string_view(command.name))
        return report(command.name, hand_over_to_workshop().error());
      app.add_subcommand(command.name, command.summary);
      continue;
    }
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    sub->add_flag("-q,--quiet", common().quiet, "No progress and no remarks on stderr");
    work.emplace_back(sub, command.define(*sub));
  }
  auto arguments = with_recipe(rewrite_flags(argc, argv));
  if (!arguments) {
    fmt::print(stderr, "shoehorn: {}\n", arguments.error().message);
    return kExitFailed;
  }
  std::reverse(arguments->begin(), arguments->end());  // CLI11 takes them last first
  try {
    app.parse(*arguments);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    return code == 0 ? kExitOk : kExitUsage;
  }
  for (const auto& [sub, execute] : work) {
    if (!sub->parsed()) continue;
    Status status = fetch_models();
    if (status) status = apply_model_options(*sub);
    if (status) status = execute();
    return status ? kExitOk : report(sub->get_name(), status.error());
  }
  return kExitUsage;
}

}  // namespace

Status hand_over_to_workshop() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program = (self.parent_path() / "shoehorn-workshop").string();
  set_up_torch();
  execv(program.c_str(), g_argv);
  return fail(ErrorCode::kUnsupported, "this needs {}, which is not there: {}", program,
              SHOEHORN_HAS_WORKSHOP && errno != ENOENT
                  ? std::strerror(errno)
                  : "builds from source where libtorch-dev is installed have it, packages for devices do not");
}

}  // namespace shoehorn::cli

int main(int argc, char** argv) {
  // A full disk or a closed pipe is reported by the failing call.
  std::signal(SIGXFSZ, SIG_IGN);
  shoehorn::cli::install_signal_handlers();
  try {
    return shoehorn::cli::run(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("shoehorn: out of memory\n", stderr);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "shoehorn: %s\n", e.what());
  }
  return shoehorn::cli::kExitFailed;
}
