#include "compress/rotate/rotate.h"

#include <map>
#include <memory>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/output_check.h"

namespace shoehorn::cli {
namespace {

struct Options {
  compress::RotateOptions rotate;
  std::string rotations = "r1,r2", kind = "hadamard", check_text;
  bool no_check = false, json = false;
};

/// A line on what became of the model's size; "" when nothing did.
std::string size_remark(const compress::RotateReport& report) {
  if (!report.untied) return "";
  return fmt::format("\nthe embedding and the output matrix were one and are two now: {} more parameters", report.untied_parameters);
}

Status run(Options& o) {
  compress::RotateOptions& r = o.rotate;
  r.rotations.r1 = r.rotations.r2 = r.rotations.r4 = false;
  const std::map<std::string, bool*> known = {{"r1", &r.rotations.r1}, {"r2", &r.rotations.r2}, {"r4", &r.rotations.r4}};
  for (const std::string& name : CLI::detail::split(o.rotations, ',')) {
    const auto found = known.find(name);
    if (found == known.end()) {
      return fail(ErrorCode::kInvalid, "--rotations {}: \"{}\" is none of r1, r2, r4{}", o.rotations, name,
                  name == "r3" ? " (r3 is in no weights: --cache-rotation of the commands that run a model)" : "");
    }
    *found->second = true;
  }
  r.rotations.kind = o.kind == "hadamard" ? compress::RotationKind::kHadamard : compress::RotationKind::kOrthogonal;
  const auto progress = make_progress();
  OutputCheck check(r.model, o.check_text, r.n_threads);
  if (!o.no_check) {
    r.check = [&](const std::string& directory) -> Expected<Json> {
      SHOEHORN_RETURN_IF_ERROR(check.run(directory, *progress));
      return check.json();
    };
  }
  SHOEHORN_TRY(const auto report, compress::rotate(r, *progress));
  if (o.json) {
    Json json = report.json();
    json["in"] = r.model;
    json["out"] = r.out;
    json["seconds"] = report.seconds;
    json["peak_rss"] = peak_resident_bytes();
    print_json(json);
    return {};
  }
  std::vector<std::string> done;
  for (const auto& [name, how] : {std::pair("R1", report.r1), {"R2", report.r2}, {"R4", report.r4}}) {
    if (!how.empty()) done.push_back(fmt::format("{} {}", name, how));
  }
  std::string text = fmt::format("{}: {}", r.out, fmt::join(done, ", "));
  text += fmt::format(", {:.1f} s, peak memory {}", report.seconds, format_bytes(peak_resident_bytes())) + size_remark(report);
  if (const std::string found = check.summary(); !found.empty()) text += "\n" + found;
  print(text);
  return {};
}

}  // namespace

std::function<Status()> define_rotate(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  compress::RotateOptions& r = o->rotate;
  add_model_option(app, "MODEL", r.model, "Checkpoint directory")->required();
  app.add_option("-o,--output", r.out, "Directory to write")->required();
  app.add_option("--rotations", o->rotations,
                 "r1: the residual stream; r2: the values of each KV head; r4: what down_proj reads, for which the engine has to transform it: "
                 "other programs refuse the model")
      ->capture_default_str();
  app.add_option("--kind", o->kind, "hadamard: signs drawn at random and a Hadamard matrix; orthogonal: any orthogonal matrix, drawn at random")
      ->check(CLI::IsMember({"hadamard", "orthogonal"}))
      ->capture_default_str();
  app.add_option("-s,--seed", r.rotations.seed, "Of what is drawn")->capture_default_str();
  app.add_option("--dtype", r.result_dtype, "Of the result: bf16, f16 or f32 (default: as it is stored). What rounding to it costs is in the check")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}));
  app.add_option("-t,--threads", r.n_threads, "Threads (default: all cores this process may use)")->check(CLI::Range(1, 1024));
  app.add_option("--check-file", o->check_text, "Text to compare source and result on (default: a bundled one)")->check(CLI::ExistingFile);
  app.add_flag("--no-check", o->no_check, "Do not compare them");
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Examples:\n"
             "  shoehorn rotate Llama-3.2-1B -o rotated && shoehorn quantize rotated rotated.gguf Q4_K_M\n"
             "  shoehorn rotate Llama-3.2-1B -o rotated --rotations r1 --kind orthogonal --seed 7 --dtype f32\n"
             "  shoehorn rotate Llama-3.2-1B -o rotated --rotations r1,r2,r4\n"
             "The result computes what the source does, in an ordinary checkpoint (without r4). Tied embeddings become two matrices.");
  return [o] { return run(*o); };
}

}  // namespace shoehorn::cli
