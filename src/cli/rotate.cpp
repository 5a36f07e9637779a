#include "compress/rotate/rotate.h"

#include <map>
#include <memory>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/output_check.h"
#include "cli/size_option.h"

namespace shoehorn::cli {
namespace {

struct Options {
  compress::RotateOptions rotate;
  std::string rotations = "r1,r2", kind = "hadamard", check_text;
  bool no_check = false, estimate = false, json = false;
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
  if (o.estimate) {
    SHOEHORN_TRY(const Json estimate, compress::estimate_rotate(r, *progress));
    print_json(estimate);
    return {};
  }
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
  if (const compress::LearnReport& l = report.learned; l.steps > 0) {
    text += fmt::format("\nlearned in {} steps: KL {:.5f} -> {:.5f}, on windows held out {:.5f} -> {:.5f} (step {}), orthogonal to {:.0e}", l.steps,
                        l.losses.front(), l.losses.back(), l.held_out_before, l.held_out_after, l.best_step, l.defect);
    if (l.best_step == 0) text += "\nno step was better than the rotations as they were drawn, so those were taken";
  }
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
  compress::LearnOptions& l = r.learn;
  app.add_option("--learn", l.steps, "Learn R1 and R2 in so many steps (Cayley SGD), so that the quantized model loses least")->check(CLI::Range(1, 1 << 24));
  app.add_option("--calib", l.calib, "Text to learn from: a text file, or .jsonl with \"text\" in each line")->check(CLI::ExistingFile);
  app.add_option("--learn-activations", l.activation_bits, "Bits that activations are rounded to meanwhile, a scale per token; 0: none")
      ->check(CLI::Range(0, 16))
      ->capture_default_str();
  app.add_option("--learn-weights", l.weight_type, "Type or mix that weights are rounded to meanwhile, as Q3_K (default: none)");
  app.add_option("--learn-rate", l.lr, "Of Cayley SGD; it falls to 0 linearly")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--samples", l.samples, "Windows of the text to learn from")->check(CLI::Range(1, 1 << 24))->capture_default_str();
  app.add_option("--seq-len", l.tokens, "Tokens in each (default: 512)")->check(CLI::Range(2, 1 << 20));
  app.add_option("--batch", l.batch, "Windows of a step")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--micro-batch", l.micro_batch, "Windows at once")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--device", l.device, "To learn on: cpu, cuda or cuda:N")->capture_default_str();
  add_size_option(app, "--ram", l.ram, "Memory for activations while learning; those beyond it go to disk (default: half of what is free)");
  app.add_flag("--resume", r.resume, "Go on where an interrupted run with the same options stopped");
  app.add_flag("--estimate", o->estimate, "Only say what it would take, as one JSON object: memory, disk, time");
  app.add_option("-t,--threads", r.n_threads, "Threads (default: all cores this process may use)")->check(CLI::Range(1, 1024));
  app.add_option("--check-file", o->check_text, "Text to compare source and result on (default: a bundled one)")->check(CLI::ExistingFile);
  app.add_flag("--no-check", o->no_check, "Do not compare them");
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Examples:\n"
             "  shoehorn rotate Llama-3.2-1B -o rotated && shoehorn quantize rotated rotated.gguf Q4_K_M\n"
             "  shoehorn rotate Llama-3.2-1B -o rotated --rotations r1 --kind orthogonal --seed 7 --dtype f32\n"
             "  shoehorn rotate Llama-3.2-1B -o rotated --rotations r1,r2,r4 --learn 100 --calib books.txt\n"
             "The result computes what the source does, in an ordinary checkpoint (without r4). Tied embeddings become two matrices.");
  return [o] { return run(*o); };
}

}  // namespace shoehorn::cli
