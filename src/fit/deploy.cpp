#include "fit/deploy.h"

#include <filesystem>

#include "base/lines.h"
#include "base/subprocess.h"
#include "fit/probe.h"

namespace shoehorn::fit {
namespace {
namespace fs = std::filesystem;

/// Debian's name for what uname -m says.
std::string architecture_of(const std::string& machine) {
  return machine == "x86_64" ? "amd64" : machine == "aarch64" ? "arm64" : machine;
}

struct Greeting {
  std::string machine, system, directory, installed;
  bool has_dpkg = false;
};

Expected<Greeting> greet(const SshHost& host, const std::string& directory, Progress& progress) {
  SHOEHORN_TRY(const std::string said,
               host.run(fmt::format("mkdir -p {0} && cd {0} || exit 1\n"
                                    "uname -m\n"
                                    "(. /etc/os-release; echo \"$PRETTY_NAME\") 2>/dev/null || uname -s\n"
                                    "pwd\n"
                                    "command -v dpkg-deb || echo\n"
                                    "command -v shoehorn || echo",
                                    shell_word(directory)),
                        progress));
  const auto lines = lines_of(said);
  if (lines.size() < 5) return fail(ErrorCode::kIo, "{}: it answers \"{}\"", host.name(), said);
  // A greeting that the user's shell prints comes first.
  const auto last = lines.end();
  return Greeting{.machine = std::string(last[-5]),
                  .system = std::string(last[-4]),
                  .directory = std::string(last[-3]),
                  .installed = std::string(last[-1]),
                  .has_dpkg = !last[-2].empty()};
}

/// The program on the host, there and ready.
Expected<std::string> bring_program(const SshHost& host, const DeployOptions& o, const Greeting& greeting,
                                    Progress& progress) {
  std::string package = o.package;
  if (package.empty()) {
    auto found = find_package(architecture_of(greeting.machine), o.package_folders);
    if (!found && !greeting.installed.empty()) {
      progress.note(fmt::format("{}; the host's own {} is used", found.error().message, greeting.installed));
      return greeting.installed;
    }
    if (!found) return annotate(std::move(found).error(), host.name());
    package = *found;
  }
  const std::string there = greeting.directory + "/shoehorn.deb";
  SHOEHORN_TRY(const auto copied, host.copy(package, there, progress));
  if (o.install) {
    SHOEHORN_TRY(
        const std::string said,
        host.run(fmt::format("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y {} >&2", shell_word(there)),
                 progress));
    return std::string("/usr/bin/shoehorn");
  }
  if (!greeting.has_dpkg) {
    return fail(ErrorCode::kUnsupported,
                "{} ({}) has no dpkg-deb to unpack the package with; build shoehorn there and have it in PATH",
                host.name(), greeting.system);
  }
  const std::string folder = greeting.directory + "/program";
  SHOEHORN_TRY(
      const std::string said,
      host.run(fmt::format("rm -rf {1} && dpkg-deb -x {0} {1}", shell_word(there), shell_word(folder)), progress));
  return folder + "/usr/bin/shoehorn";
}

}  // namespace

Expected<std::string> find_package(const std::string& architecture, const std::vector<std::string>& folders) {
  std::string best;
  fs::file_time_type best_time;
  for (const std::string& folder : folders) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with("shoehorn_") || !name.ends_with("_" + architecture + ".deb")) continue;
      const auto time = entry.last_write_time(error);
      if (error || (!best.empty() && time <= best_time)) continue;
      best = entry.path().string();
      best_time = time;
    }
  }
  if (!best.empty()) return best;
  return fail(ErrorCode::kNotFound,
              "there is no package for {} in {}: scripts/package.sh {} makes one, --package names one", architecture,
              fmt::join(folders, ", "), architecture);
}

Expected<Deployed> deploy(const SshHost& host, const DeployOptions& o, Progress& progress) {
  SHOEHORN_TRY(const Greeting greeting, greet(host, o.directory, progress));
  Deployed out;
  out.machine = greeting.machine + ", " + greeting.system;
  SHOEHORN_TRY(out.program, bring_program(host, o, greeting, progress));
  const std::string program = shell_word(out.program);
  auto version = host.run(program + " --version", progress);
  if (!version) {
    return fail(ErrorCode::kUnsupported,
                "{}: {} does not start there ({}); its libraries are Debian 12's libcurl4 and libssl3", host.name(),
                out.program, version.error().message);
  }
  out.version = lines_of(*version).empty() ? "" : lines_of(*version).back();
  out.model = greeting.directory + "/" + fs::path(o.model).filename().string();
  SHOEHORN_TRY(const auto copied, host.copy(o.model, out.model, progress));
  out.sha256 = copied.sha256;
  out.bytes = copied.bytes;
  out.resumed_at = copied.resumed_at;
  if (!o.measure) return out;

  const std::string probed = shell_word(greeting.directory + "/device.toml");
  std::string formats;
  if (o.quick) {
    SHOEHORN_TRY(const auto types, formats_of(o.model));
    for (const quant::Type type : types) formats += std::string(" --format ") + quant::format(type).name;
  }
  progress.note("measuring " + host.name());
  SHOEHORN_TRY(const std::string toml,
               host.run(fmt::format("{0} probe -o {1} -q{2} >&2 && cat {1}", program, probed, formats), progress));
  SHOEHORN_TRY(out.device, parse_device(toml, host.name() + ":device.toml"));
  progress.note("timing the model there");
  SHOEHORN_TRY(const std::string bench,
               host.run(fmt::format("{} bench -m {} -p {} -n {} -pg {},{} -r {} -o json -q", program,
                                    shell_word(out.model), o.n_prompt, o.n_gen, o.n_prompt, o.n_gen, o.repetitions),
                        progress));
  auto parsed = parse_json(bench);
  if (!parsed) return annotate(std::move(parsed).error(), host.name() + ": bench");
  out.bench = std::move(*parsed);
  return out;
}

}  // namespace shoehorn::fit
