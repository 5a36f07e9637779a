#include "compress/prune/prune.h"

#include <memory>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/workshop_flags.h"

namespace shoehorn::cli {
namespace {

struct Options {
  compress::PruneOptions prune;
  std::string targets = "mlp", layers, widths = "uniform";
  bool no_check = false, estimate = false, json = false;
};

std::string method_list() {
  std::string text = "How importance is judged:";
  for (const auto* method : compress::methods()) text += fmt::format("\n  {:<10} {}", method->name, method->summary);
  return text;
}

std::string describe(const compress::PrunedLayer& l) {
  if (l.dropped) return "dropped";
  std::string text;
  if (l.before.n_ff != l.after.n_ff) text += fmt::format("MLP {} -> {}", l.before.n_ff, l.after.n_ff);
  if (l.before.n_head != l.after.n_head) {
    text += fmt::format("{}heads {}/{} -> {}/{}", text.empty() ? "" : ", ", l.before.n_head, l.before.n_head_kv, l.after.n_head,
                        l.after.n_head_kv);
  }
  return text;
}

/// Runs of layers with the same change on one line.
std::string summary(const std::vector<compress::PrunedLayer>& layers) {
  std::string out;
  for (size_t begin = 0; begin < layers.size();) {
    size_t end = begin + 1;
    while (end < layers.size() && layers[end].layer == layers[end - 1].layer + 1 && describe(layers[end]) == describe(layers[begin])) ++end;
    const std::string range = end - begin == 1 ? fmt::format("layer {}", layers[begin].layer)
                                               : fmt::format("layers {}-{}", layers[begin].layer, layers[end - 1].layer);
    out += fmt::format("{}: {}\n", range, describe(layers[begin]));
    begin = end;
  }
  return out;
}

Status run(Options& o) {
  compress::PruneOptions& p = o.prune;
  p.targets = CLI::detail::split(o.targets, ',');
  p.search_widths = o.widths == "search";
  p.check = !o.no_check;
  SHOEHORN_RETURN_IF_ERROR(parse_layers(o.layers, p.first_layer, p.last_layer));
  const auto progress = make_progress();
  if (o.estimate) {
    SHOEHORN_TRY(const Json estimate, compress::estimate_prune(p, *progress));
    print_json(estimate);
    return {};
  }
  SHOEHORN_TRY(const auto report, compress::prune(p, *progress));
  if (o.json) {
    Json json = report.json();
    json["in"] = p.model;
    json["out"] = p.out;
    json["method"] = p.method;
    json["seconds"] = report.seconds;
    json["peak_rss"] = peak_resident_bytes();
    print_json(json);
    return {};
  }
  std::string text = summary(report.layers);
  text += fmt::format("{}: {} of {} parameters ({:.1f} % fewer), {:.1f} s, peak memory {}", p.out, report.parameters_after,
                      report.parameters_before,
                      100 * (1 - static_cast<double>(report.parameters_after) / static_cast<double>(report.parameters_before)),
                      report.seconds, format_bytes(peak_resident_bytes()));
  if (report.has_check) {
    text += fmt::format("\non {} tokens that it was not calibrated on: KL to the source {:.4f} +/- {:.4f} nats a token, loss {:.4f} -> {:.4f}",
                        report.check_tokens, report.kl, report.kl_err, report.nll_before, report.nll_after);
  }
  print(text);
  return {};
}

}  // namespace

std::function<Status()> define_prune(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  compress::PruneOptions& p = o->prune;
  add_model_option(app, "MODEL", p.model, "Checkpoint directory")->required();
  app.add_option("-o,--output", p.out, "Directory to write")->required();
  app.add_option("--method", p.method, method_list())->capture_default_str();
  app.add_option("--target", o->targets, "What goes, with commas: mlp (neurons), attention (KV heads with their query heads), heads (one "
                                         "query head of every KV head), layers")->capture_default_str();
  app.add_option("--layers", o->layers, "Layers to prune, as 4-27 (default: all)");
  app.add_option("--ratio", p.ratio, "Share of each layer's units that goes")->capture_default_str();
  app.add_option("--multiple-of", p.multiple_of, "Kept neurons are a multiple of this (default 256: what K-quants need)")->check(CLI::Range(1, 1 << 20));
  app.add_option("--widths", o->widths, "uniform, or search: a width per layer, by measured KL divergence")->check(CLI::IsMember({"uniform", "search"}))->capture_default_str();
  app.add_option("--norm", p.settings.norm, "magnitude's norm")->check(CLI::IsMember({"l1", "l2"}))->capture_default_str();
  app.add_option("--taylor", p.settings.taylor, "taylor's order")->check(CLI::IsMember({"first", "second", "mix", "vectorize"}))->capture_default_str();
  app.add_option("--rounds", p.settings.rounds, "obs takes units out in this many rounds")->check(CLI::Range(1, 100000))->capture_default_str();
  app.add_option("--damping", p.settings.damping, "obs: ridge of the fit, as a share of the mean diagonal")->check(CLI::Range(1e-9, 1e3))->capture_default_str();
  app.add_option("--choice-damping", p.settings.choice_damping, "obs: ridge of the choice, as a share of the median diagonal")->check(CLI::Range(0.0, 1e6))->capture_default_str();
  app.add_option("--fit", p.settings.fit, "obs refits the output to the dense model's residual stream, or to its own dense weights")->check(CLI::IsMember({"stream", "weights"}))->capture_default_str();
  app.add_option("--micro-batch", p.micro_batch, "Samples computed at once")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_flag("--no-check", o->no_check, "Do not measure the result");
  add_calibration_flags(app, {&p.calib, &p.samples, &p.seq_len, &p.seed});
  add_workshop_flags(app, {&p.dtype, &p.device, &p.n_threads, &p.ram, &p.resume, &o->estimate});
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Examples:\n"
             "  shoehorn prune Llama-3.1-8B -o pruned --layers 4-27 --ratio 0.25 --calib wiki.txt\n"
             "  shoehorn prune Llama-3.2-1B -o pruned --method obs --ratio 0.25 --calib wiki.txt --widths search\n"
             "  shoehorn prune Llama-3.2-1B -o pruned --method magnitude --target mlp,attention --ratio 0.2\n"
             "An interrupted run goes on with --resume.");
  return [o] { return run(*o); };
}

}  // namespace shoehorn::cli
