#include "fit/deploy.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "base/memory.h"
#include "base/output_file.h"
#include "cli/command.h"
#include "cli/fit_results.h"
#include "cli/model_option.h"

namespace shoehorn::cli {
namespace {
namespace fs = std::filesystem;

struct Options {
  fit::DeployOptions deploy;
  std::string host, identity, out;
  std::vector<std::string> ssh_options;
  int port = 0;
  bool no_bench = false, json = false;
};

/// Of a host, fit for the name of a file.
std::string file_name_of(const std::string& host) {
  std::string out = host.substr(host.find('@') == host.npos ? 0 : host.find('@') + 1);
  std::ranges::replace_if(
      out, [](unsigned char c) { return std::isalnum(c) == 0 && c != '-' && c != '_' && c != '.'; }, '-');
  return out;
}

/// Puts what the device said beside what the run has, and makes its page anew.
Status keep(const Options& o, const fit::Deployed& d, const Json& summary) {
  const std::string records = o.out + "/records", host = file_name_of(o.host);
  std::error_code error;
  fs::create_directories(records, error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", records, error.message());
  SHOEHORN_RETURN_IF_ERROR(write_file(records + "/deploy-" + host + ".json", summary.dump(2)));
  // A probe of some formats only is nothing to plan by.
  if (d.device && !o.deploy.quick)
    SHOEHORN_RETURN_IF_ERROR(write_file(records + "/device-" + host + ".toml", fit::to_toml(*d.device)));
  if (!d.bench.empty()) {
    const std::string model = fs::path(d.model).stem().string();
    SHOEHORN_RETURN_IF_ERROR(write_file(records + "/" + model + "-bench-" + host + ".json", d.bench.dump(2)));
  }
  const auto progress = make_progress();
  const auto page = write_page(o.out, *progress);
  return page ? Status() : tl::unexpected(page.error());
}

Status deploy(const Options& o) {
  const auto progress = make_progress();
  fit::DeployOptions options = o.deploy;
  std::error_code error;
  const fs::path here = fs::read_symlink("/proc/self/exe", error).parent_path();
  options.package_folders = {".", "build-package", (here / "../build-package").lexically_normal().string()};
  options.measure = !o.no_bench;
  // What is no GGUF is not worth a copy.
  SHOEHORN_TRY(const auto file, io::GgufFile::open(options.model));
  std::vector<std::string> words = o.ssh_options;
  if (o.port > 0) words.insert(words.end(), {"-p", std::to_string(o.port)});
  if (!o.identity.empty()) words.insert(words.end(), {"-i", o.identity});
  SHOEHORN_TRY(const auto host, fit::SshHost::open(o.host, words));
  SHOEHORN_TRY(const auto d, fit::deploy(host, options, *progress));

  fit::Result result = {.path = options.model, .is_gguf = true, .bench = d.bench};
  SHOEHORN_TRY(const Rates rates, rates_of(result, d.device));
  Json summary = {{"host", o.host},   {"machine", d.machine}, {"program", d.program}, {"version", d.version},
                  {"model", d.model}, {"sha256", d.sha256},   {"bytes", d.bytes},     {"resumed_at", d.resumed_at}};
  if (options.measure) summary.update(json_of(rates, d.device.has_value()));
  Options kept = o;
  if (kept.out.empty()) kept.out = fs::absolute(options.model, error).parent_path().string();
  SHOEHORN_RETURN_IF_ERROR(keep(kept, d, summary));
  if (o.json) {
    print_json(summary);
    return {};
  }
  print(fmt::format("{}: {} ({}, {}) is in {}, SHA-256 {}", o.host, fs::path(d.model).filename().string(),
                    format_bytes(d.bytes), d.machine, d.model, d.sha256));
  if (options.measure) {
    print(fmt::format(
        "time to first token {} ({} tokens; predicted {}), {:.4g} tokens/s (predicted {:.4g}), last token {}, MBU "
        "{:.0f} %, "
        "memory {}",
        seconds_text(rates.prompt_s), options.n_prompt, seconds_text(rates.predicted_prompt_s), rates.tokens_per_s,
        rates.predicted_tokens_per_s, seconds_text(rates.ttlt_s), 100 * rates.mbu, format_bytes(rates.memory)));
  }
  print(fmt::format("{}/report.html has the figures. There: {} run -m {}", kept.out, d.program, d.model));
  return {};
}

}  // namespace

std::function<Status()> define_deploy(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  fit::DeployOptions& d = o->deploy;
  app.add_option("HOST", o->host, "USER@HOST, as ssh has it (Debian 12 or what has its packages)")->required();
  add_model_option(app, "MODEL", d.model, "GGUF to bring there")->required();
  app.add_option("--package", d.package,
                 "The runtime's package (default: the newest for the host in . and build-package)");
  app.add_option("--dir", d.directory, "Folder on the host")->capture_default_str();
  app.add_flag("--install", d.install, "Install the package with sudo apt-get in place of unpacking it in the folder");
  app.add_option("--port", o->port, "Of the host's sshd")->check(CLI::Range(1, 65535));
  app.add_option("-i,--identity", o->identity, "Private key");
  app.add_option("--ssh-option", o->ssh_options, "A further word for ssh; repeatable")->expected(1)->take_all();
  app.add_flag("--quick", d.quick, "Probe the model's formats only; the whole probe is kept as a device to plan for");
  app.add_flag("--no-bench", o->no_bench, "Only copy");
  app.add_option("-p,--n-prompt", d.n_prompt, "Tokens of the prompt that is timed")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("-n,--n-gen", d.n_gen, "Tokens that are generated")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("-r,--repetitions", d.repetitions, "Of each test")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("-o,--output", o->out,
                 "The run's folder: its records and report.html get the figures (default: the model's)");
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  scripts/package.sh arm64 && shoehorn deploy pi@raspberrypi run/model-Q4_K_M.gguf\n"
      "  shoehorn deploy me@10.0.0.7 model.gguf --port 2222 -i ~/.ssh/board --install\n"
      "A copy that was interrupted goes on where it stopped; files are compared by SHA-256.");
  return [o] { return deploy(*o); };
}

}  // namespace shoehorn::cli
