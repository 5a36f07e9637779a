#include <filesystem>
#include <memory>

#include "base/output_file.h"
#include "cli/command.h"
#include "report/page.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string directory, out;
  bool json = false;
};

Status report(const Options& o) {
  const std::string out = o.out.empty() ? (std::filesystem::path(o.directory) / "report.html").string() : o.out;
  const auto progress = make_progress();
  SHOEHORN_TRY(const auto run, report::read_run(o.directory, out, *progress));
  SHOEHORN_RETURN_IF_ERROR(write_file(out, report::page(run)));
  if (o.json) {
    Json json = report::summary(run);
    json["out"] = out;
    print_json(json);
    return {};
  }
  print(fmt::format("{}: {} models, {} measurements of quality, {} of speed, {} files that could not be read", out,
                    run.variants.size(), run.qualities.size() + run.scores.size(), run.rates.size(), run.n_bad()));
  return {};
}

}  // namespace

std::function<Status()> define_report(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option(
         "DIR", o->directory,
         "Directory of a run: GGUFs, checkpoints, and the --json output of the commands that made and measured them")
      ->required();
  app.add_option("-o,--output", o->out, "HTML file to write (default: DIR/report.html)");
  app.add_flag("--json", o->json, "Print the figures as one JSON object too");
  app.footer(
      "Examples:\n"
      "  shoehorn quantize model-F16.gguf run/Q4_K_M.gguf Q4_K_M --json > run/quantize-Q4_K_M.json\n"
      "  shoehorn perplexity -m run/Q4_K_M.gguf -f wiki.txt --kl-base model-F16.gguf --json > run/ppl-Q4_K_M.json\n"
      "  shoehorn bench -m run/Q4_K_M.gguf -p 512 -n 128 -pg 512,128 -o json > run/bench-Q4_K_M.json\n"
      "  shoehorn report run\n\n"
      "One file without references to anything outside of it. Records are recognized by what is in them, whatever "
      "their names;\n"
      "what cannot be read is named in the report and on stderr.");
  return [o] { return report(*o); };
}

}  // namespace shoehorn::cli
