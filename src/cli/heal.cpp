#include "compress/heal/heal.h"

#include <cmath>
#include <memory>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/workshop_flags.h"
#include "compress/heal/fake_quantizer.h"

namespace shoehorn::cli {
namespace {

struct Options {
  compress::HealOptions heal;
  std::string targets = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", full;
  std::string merge, gguf, qat;
  bool estimate = false, json = false, rate_given = false;
};

std::string format_hours(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  return seconds < 7200 ? fmt::format("{:.0f} min", seconds / 60) : fmt::format("{:.1f} h", seconds / 3600);
}

Status merge(const Options& o) {
  const compress::HealOptions& h = o.heal;
  if (h.out.empty() && o.gguf.empty()) return fail(ErrorCode::kInvalid, "--merge: say where to: -o DIR for a merged checkpoint, --gguf FILE for a GGUF adapter");
  const auto progress = make_progress();
  SHOEHORN_RETURN_IF_ERROR(compress::merge_adapter({h.model, o.merge, h.out, o.gguf, h.result_dtype, h.n_threads}, *progress));
  if (o.json) {
    print_json({{"in", h.model}, {"adapter", o.merge}, {"out", h.out}, {"gguf", o.gguf}});
  } else {
    for (const std::string& path : {h.out, o.gguf}) {
      if (!path.empty()) print(path);
    }
  }
  return {};
}

/// Everything is trained whole, by default towards what the model itself predicts before it is rounded.
Status prepare_qat(Options& o) {
  compress::HealOptions& h = o.heal;
  const quant::Format* format = quant::find_format(o.qat == "ternary" ? "TQ2_0" : o.qat);
  if (format == nullptr) return fail(ErrorCode::kInvalid, "--qat {}: expected ternary or a quantized type such as Q2_K", o.qat);
  h.qat = format->type;
  if (!o.rate_given) h.adamw.lr = compress::rate_for_training(*format);
  h.lora.full = compress::all_projections();
  o.targets.clear();
  if (h.teacher.empty()) h.teacher = h.model;
  if (h.result_dtype.empty()) h.result_dtype = "f32";
  return {};
}

Status run(Options& o) {
  compress::HealOptions& h = o.heal;
  if (!o.merge.empty()) return merge(o);
  if (!o.gguf.empty()) return fail(ErrorCode::kInvalid, "--gguf goes with --merge; a healed model's adapter is in its folder adapter");
  if (h.data.empty() || h.out.empty()) return fail(ErrorCode::kInvalid, "--data FILE and -o DIR are needed (or --merge ADAPTER)");
  if (!o.full.empty()) {
    SHOEHORN_TRY(h.lora.full, compress::parse_projections(CLI::detail::split(o.full, ',')));
    if (o.targets == Options().targets) o.targets.clear();
  }
  if (!o.qat.empty()) SHOEHORN_RETURN_IF_ERROR(prepare_qat(o));
  if (!o.targets.empty()) {
    SHOEHORN_TRY(h.lora.targets, compress::parse_projections(CLI::detail::split(o.targets, ',')));
  }
  const auto progress = make_progress();
  if (o.estimate) {
    SHOEHORN_TRY(const Json estimate, compress::estimate_heal(h, *progress));
    print_json(estimate);
    return {};
  }
  SHOEHORN_TRY(const auto report, compress::heal(h, *progress));
  if (o.json) {
    Json json = report.json();
    json["in"] = h.model;
    json["out"] = h.out;
    json["seconds"] = report.seconds;
    json["seconds_per_step"] = report.seconds_per_step;
    json["tokens_per_second"] = report.tokens_per_second;
    json["bytes_read_per_step"] = report.bytes_read_per_step;
    json["peak_rss"] = peak_resident_bytes();
    print_json(json);
    return {};
  }
  std::string text = fmt::format("{}: {} steps, {} trainable parameters", h.out, report.steps, report.parameters);
  if (report.tokens_per_second > 0) {
    text += fmt::format(", {:.1f} s a step, {:.0f} tokens/s, peak memory {}", report.seconds_per_step, report.tokens_per_second,
                        format_bytes(peak_resident_bytes()));
  }
  if (!report.losses.empty()) text += fmt::format("\nloss {:.4f} -> {:.4f}", report.losses.front(), report.losses.back());
  if (std::isfinite(report.validation_before)) {
    text += fmt::format("\nvalidation {:.4f} -> {:.4f} (step {}); writing it as it is stored costs a KL of {:.2e}", report.validation_before,
                        report.validation_after, report.best_step, report.rounding_kl);
  }
  if (!report.gguf.empty()) text += fmt::format("\n{}/{}", h.out, report.gguf);
  if (report.steps < report.steps_planned) {
    text += fmt::format("\nall {} steps would take {}", report.steps_planned,
                        format_hours(report.seconds_per_step * static_cast<double>(report.steps_planned)));
  }
  print(text);
  return {};
}

}  // namespace

std::function<Status()> define_heal(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  compress::HealOptions& h = o->heal;
  add_model_option(app, "MODEL", h.model, "Checkpoint directory")->required();
  app.add_option("-o,--output", h.out, "Directory to write: the merged model, and the adapter in adapter/");
  app.add_option("--data", h.data, "Examples: .json or .jsonl with instruction, input and output, or with text; or a plain text file");
  add_model_option(app, "--teacher", h.teacher, "What is learned (KL divergence) in place of the data's next tokens: predictions of this checkpoint");
  app.add_flag("--teacher-cache", h.teacher_cache, "Keep what the teacher made of each example on disk for the next epoch");
  app.add_option("--rank", h.lora.rank, "Rank of the adapters")->capture_default_str();
  app.add_option("--alpha", h.lora.alpha, "Adapters are scaled by alpha / rank")->capture_default_str();
  app.add_option("--dropout", h.lora.dropout, "Dropout before the adapters")->capture_default_str();
  app.add_option("--targets", o->targets, "Projections that get one")->capture_default_str();
  app.add_option("--full", o->full, "Projections whose whole weights are trained instead, as down_proj; others get none unless --targets names them");
  app.add_option("--qat", o->qat,
                 "Quantization-aware: train all projections whole, as this type will hold them (ternary: TQ2_0; or Q2_K, Q4_0, ...), and write that GGUF too");
  app.add_option("--qat-warmup", h.qat_warmup, "Steps over which the rounding sets in")->check(CLI::Range(0, 1 << 30))->capture_default_str();
  app.add_option("--qat-from", h.qat_from, "Begin with the weights of this GGUF of the model, as quantize --method gptq wrote it, instead of with the model's own");
  app.add_option("--merge", o->merge, "Train nothing: merge this PEFT adapter directory");
  app.add_option("--gguf", o->gguf, "With --merge: write the adapter as a GGUF for llama.cpp's --lora");
  app.add_option("--epochs", h.epochs, "Passes over the examples")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--max-steps", h.max_steps, "Stop after this many optimizer steps")->check(CLI::Range(1, 1 << 30));
  const CLI::Option* rate = app.add_option("--lr", h.adamw.lr, "Learning rate; with --qat the default is 0.001 below 2.5 bits, 0.0005 below 3.5, else 0.0002")
                                ->check(CLI::Range(0.0, 10.0))
                                ->capture_default_str();
  app.add_option("--warmup", h.adamw.warmup, "Steps until the full rate")->check(CLI::Range(0, 1 << 30))->capture_default_str();
  app.add_option("--schedule", h.adamw.schedule, "linear, cosine or constant")->check(CLI::IsMember({"linear", "cosine", "constant"}))->capture_default_str();
  app.add_option("--weight-decay", h.adamw.weight_decay, "AdamW's")->check(CLI::Range(0.0, 10.0))->capture_default_str();
  app.add_option("--clip", h.adamw.clip, "Largest norm of the gradient, 0: any")->check(CLI::Range(0.0, 1e9))->capture_default_str();
  app.add_option("--batch", h.batch, "Examples per optimizer step")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--micro-batch", h.micro_batch, "Examples computed at once")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--cutoff,--seq-len", h.cutoff, "Tokens of an example at most")->check(CLI::Range(2, 1 << 20))->capture_default_str();
  app.add_option("--validation", h.validation, "Examples kept for validation, at most a tenth of all")->check(CLI::Range(0, 1 << 30))->capture_default_str();
  app.add_option("--validate-every", h.validate_every, "Steps between validations; the best adapter is kept")->check(CLI::Range(1, 1 << 30))->capture_default_str();
  app.add_option("-s,--seed", h.seed, "Order of the examples, first weights, dropout")->capture_default_str();
  app.add_option("--dtype", h.result_dtype, "Of the merged weights: bf16, f16 or f32 (default: as they are stored)")->check(CLI::IsMember({"bf16", "f16", "f32"}));
  add_workshop_flags(app, {&h.compute_dtype, &h.device, &h.n_threads, &h.ram, &h.resume, &o->estimate}, "--compute-dtype");
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer("Examples:\n"
             "  shoehorn heal pruned -o healed --data alpaca_data_cleaned.json --teacher Llama-3.1-8B\n"
             "  shoehorn heal pruned -o healed --data books.txt --rank 16 --max-steps 500 --batch 16\n"
             "  shoehorn heal Llama-3.2-1B -o ternary --data books.txt --qat ternary\n"
             "  shoehorn heal Llama-3.2-1B -o better --data books.txt --qat q4_0 --qat-from gptq-Q4_0.gguf\n"
             "  shoehorn heal Llama-3.2-1B --merge my-adapter -o merged --gguf my-adapter.gguf\n"
             "An interrupted run goes on with --resume, to the same weights.");
  return [o, rate] {
    o->rate_given = rate->count() > 0;
    return run(*o);
  };
}

}  // namespace shoehorn::cli
