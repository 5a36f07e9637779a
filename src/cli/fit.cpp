#include <filesystem>
#include <memory>
#include <set>

#include "base/memory.h"
#include "base/output_file.h"
#include "cli/command.h"
#include "cli/fit_results.h"
#include "cli/model_option.h"
#include "cli/size_option.h"
#include "convert/naming.h"
#include "eval/bundled_text.h"
#include "fit/chosen_recipe.h"
#include "fit/plan.h"
#include "fit/probe.h"
#include "fit/runner.h"

namespace shoehorn::cli {
namespace {
namespace fs = std::filesystem;

struct Options {
  std::string model, device, out, calib, data, eval;
  fit::PlanOptions plan;
  fit::RunOptions run;
  int eval_chunks = 0;
  bool only_plan = false, json = false;
};

std::string width_text(double width) { return width == 1 ? "all" : fmt::format("{:.4g} %", 100 * width); }

std::string plan_table(const fit::Plan& plan) {
  std::vector<std::vector<std::string>> rows = {
      {"", "type", "MLP", "parameters", "file", "memory", "tokens/s", "first token", "last token", "loss"}};
  for (size_t i = 0; i < plan.choices.size(); ++i) {
    const fit::Choice& c = plan.choices[i];
    const char* mark = plan.recommended == i ? "->"
                       : !c.fits             ? "too large"
                       : !c.fast_enough      ? "too slow"
                       : c.pareto            ? "*"
                                             : "";
    rows.push_back({mark, std::string(c.mix->name), width_text(c.width),
                    convert::size_label(c.parameters), format_bytes(c.file_bytes),
                    format_bytes(c.ram_bytes), fmt::format("{:.3g}", c.tokens_per_s), seconds_text(c.ttft_s),
                    seconds_text(c.ttlt_s),
                    c.published_loss ? fmt::format("{:.1f} % published", 100 * *c.published_loss) : "unknown"});
  }
  return format_table(rows);
}

Json plan_json(const fit::ModelFacts& model, const fit::Device& device, const fit::Plan& plan,
               const fit::PlanOptions& o) {
  Json choices = Json::array();
  for (const fit::Choice& c : plan.choices) {
    choices.push_back({{"type", std::string(c.mix->name)},
                       {"mlp_width", c.width},
                       {"parameters", c.parameters},
                       {"file_bytes", c.file_bytes},
                       {"ram_bytes", c.ram_bytes},
                       {"tokens_per_second", c.tokens_per_s},
                       {"ttft_s", c.ttft_s},
                       {"ttlt_s", c.ttlt_s},
                       {"published_loss", c.published_loss ? Json(*c.published_loss) : Json()},
                       {"fits", c.fits},
                       {"fast_enough", c.fast_enough},
                       {"pareto", c.pareto}});
  }
  return {{"model", model.name},
          {"device", device.name},
          {"measured_device", device.measured()},
          {"n_ctx", o.n_ctx},
          {"n_prompt", o.n_prompt},
          {"n_answer", o.n_answer},
          {"ram", o.ram > 0 ? o.ram : device.usable_ram()},
          {"choices", choices},
          {"recommended", plan.recommended ? Json(*plan.recommended) : Json()},
          {"reason", plan.reason}};
}

/// This machine, measured with weights of some formats (empty: all); what the run measured before is not measured
/// again.
Expected<fit::Device> this_machine(const Options& o, const std::vector<quant::Type>& formats, Progress& progress) {
  const std::string path = o.out + "/records/this-machine.toml";
  if (o.run.resume) {
    const auto before = fit::find_device(path);
    if (before && std::ranges::all_of(formats, [&](quant::Type type) { return before->formats.contains(type); }))
      return before;
  }
  SHOEHORN_TRY(const auto device, fit::probe({.n_threads = o.run.n_threads, .formats = formats}, progress));
  if (!o.out.empty()) {
    std::error_code error;
    fs::create_directories(o.out + "/records", error);
    SHOEHORN_RETURN_IF_ERROR(write_file(path, fit::to_toml(device)));
  }
  return device;
}

/// Gives the recipe its inputs: the command line's, its own, or the bundled texts.
Status give_inputs(const Options& o, fit::Recipe& recipe) {
  const auto give = [](const std::string& given, std::string& input) {
    if (!given.empty()) input = given;
  };
  give(o.calib, recipe.calib);
  give(o.data, recipe.data);
  give(o.eval, recipe.eval);
  if (o.eval_chunks > 0) recipe.eval_chunks = o.eval_chunks;
  const auto bundled = [&](std::string& input, const char* name, std::string_view text, const char* what) -> Status {
    if (!input.empty()) return {};
    std::error_code error;
    fs::create_directories(o.out + "/texts", error);
    input = o.out + "/texts/" + name;
    remark(
        fmt::format("no {} given: the bundled pages of old novels are used, which are generic; text like the model's "
                    "use makes a better model and an honester figure",
                    what));
    return fs::exists(input, error) ? Status() : write_file(input, std::string(text));
  };
  SHOEHORN_RETURN_IF_ERROR(bundled(recipe.calib, "calib.txt", eval::bundled_calibration_text(), "--calib"));
  SHOEHORN_RETURN_IF_ERROR(bundled(recipe.eval, "eval.txt", eval::bundled_text(), "--eval"));
  if (recipe.data.empty()) recipe.data = recipe.calib;
  for (const std::string& input : {recipe.calib, recipe.data, recipe.eval}) {
    std::error_code error;
    if (!fs::exists(input, error)) return fail(ErrorCode::kNotFound, "{}: no such file", input);
  }
  return {};
}

/// What the run will take, before it takes it; a refusal when there is no room.
Expected<fit::Needs> tell_needs(const fit::Recipe& recipe, const fit::RunOptions& options, Progress& progress) {
  SHOEHORN_TRY(auto needs, fit::estimate_recipe(recipe, options, progress));
  std::vector<std::vector<std::string>> rows = {{"stage", "", "writes", "disk in all", "memory", "time"}};
  for (size_t i = 0; i < needs.stages.size(); ++i) {
    const fit::StageNeed& need = needs.stages[i];
    rows.push_back({need.name, recipe.stages[i].command, format_bytes(need.output_bytes), format_bytes(need.disk_bytes),
                    format_bytes(need.memory_bytes), need.seconds > 0 ? seconds_text(need.seconds) : ""});
  }
  remark(format_table(rows));
  remark(
      fmt::format("At most {} of disk and {} of memory; {} stay. Measuring between the stages reads models a layer at "
                  "a time where they do not fit.",
                  format_bytes(needs.disk_bytes), format_bytes(needs.memory_bytes), format_bytes(needs.left_bytes)));
  SHOEHORN_RETURN_IF_ERROR(fit::check_disk(needs, options.directory));
  return needs;
}

/// `device`: this machine, when it was probed already.
Status run_it(const Options& o, fit::Recipe recipe, std::optional<fit::Device> device) {
  if (o.out.empty()) return fail(ErrorCode::kInvalid, "-o DIR is needed: where the run goes (--plan does without)");
  std::error_code error;
  fs::create_directories(o.out, error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", o.out, error.message());
  SHOEHORN_RETURN_IF_ERROR(give_inputs(o, recipe));
  fit::RunOptions options = o.run;
  options.directory = o.out;
  options.program = fs::read_symlink("/proc/self/exe", error).string();
  options.quiet = common().quiet;
  const auto progress = make_progress();
  SHOEHORN_TRY(const auto needs, tell_needs(recipe, options, *progress));
  SHOEHORN_RETURN_IF_ERROR(write_file(o.out + "/recipe.toml", fit::to_toml(recipe)));
  SHOEHORN_TRY(const auto results, fit::run_recipe(recipe, options, *progress));
  // What was planned for another machine cannot be checked on this one.
  if (!device && o.device.empty()) {
    std::set<quant::Type> formats;
    for (const fit::Result& result : results) {
      if (!result.is_gguf) continue;
      SHOEHORN_TRY(auto more, fit::formats_of(result.path));
      formats.merge(more);
    }
    SHOEHORN_TRY(device, this_machine(o, {formats.begin(), formats.end()}, *progress));
  }
  return conclude_run({.directory = o.out, .json = o.json}, recipe, needs, results, device);
}

Status fit_model(const Options& o) {
  const auto progress = make_progress();
  if (o.model.ends_with(".toml")) {
    SHOEHORN_TRY(const std::string text, read_file(o.model, 1 << 20));
    SHOEHORN_TRY(fit::Recipe recipe, fit::parse_recipe(text, o.model));
    if (o.only_plan) return fail(ErrorCode::kInvalid, "--plan takes a model, {} is a recipe", o.model);
    if (recipe.model.empty()) return fail(ErrorCode::kInvalid, "{}: it names no model", o.model);
    if (hub::is_reference(recipe.model)) {
      SHOEHORN_TRY(const auto reference, hub::parse_reference(recipe.model));
      SHOEHORN_TRY(const auto pulled, pull_model(reference, "", 0));
      recipe.model = pulled.path;
    }
    return run_it(o, std::move(recipe), std::nullopt);
  }
  SHOEHORN_TRY(const auto model, fit::read_model_facts(o.model));
  SHOEHORN_TRY(const auto device, o.device.empty() ? this_machine(o, {}, *progress) : fit::find_device(o.device));
  SHOEHORN_TRY(const auto plan, fit::make_plan(model, device, o.plan));
  if (o.only_plan && o.json) {
    print_json(plan_json(model, device, plan, o.plan));
    return {};
  }
  const std::string head = fmt::format(
      "{} on {}: {} of memory for a context of {}; prompts of {} tokens, answers of {}. {}", model.name, device.name,
      format_bytes(o.plan.ram > 0 ? o.plan.ram : device.usable_ram()), o.plan.n_ctx, o.plan.n_prompt, o.plan.n_answer,
      device.measured() ? "Times are predicted from the device's measured rates."
                        : "Times are at best, from the device's data sheet.");
  if (o.only_plan) {
    print(head);
    print(plan_table(plan));
    print(
        fmt::format("-> recommended, * nothing else that fits is better in all respects. Loss: perplexity over F16's, "
                    "published for {}; unknown: only a run tells.",
                    fit::kPublishedSource));
    if (!model.has_tokenizer)
      print("No tokenizer was there to be measured: file sizes are off by as much as a few megabytes.");
  } else {
    remark(head);
  }
  if (!plan.recommended) return fail(ErrorCode::kTooLarge, "{}", plan.reason);
  const fit::Choice& choice = plan.choices[*plan.recommended];
  const std::string verdict =
      fmt::format("{}{}: {}", choice.mix->name, choice.width < 1 ? ", MLPs pruned to " + width_text(choice.width) : "",
                  plan.reason);
  if (o.only_plan) {
    print(verdict);
    return {};
  }
  remark(verdict);
  fit::Recipe recipe = fit::recipe_of(model, choice);
  recipe.model = o.model;
  return run_it(o, std::move(recipe), o.device.empty() ? std::optional(device) : std::nullopt);
}

}  // namespace

std::function<Status()> define_fit(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  add_model_option(app, "MODEL", o->model, "Checkpoint directory, a config.json alone for --plan, or a recipe (.toml)",
                   &o->only_plan)
      ->required();
  app.add_option(
      "--device", o->device,
      "What it is for: one of devices/ by its name, or a file of shoehorn probe (default: this machine, measured now)");
  add_size_option(app, "--ram", o->plan.ram,
                  "Memory that the model may take there (default: the device's usable share)");
  app.add_option("-c,--ctx-size,--ctx", o->plan.n_ctx, "Context to make room for")->capture_default_str();
  app.add_option("-p,--n-prompt", o->plan.n_prompt, "Tokens of a prompt, for the plan's times")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("-n,--n-gen", o->plan.n_answer, "Tokens of an answer")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--min-tps", o->plan.min_tokens_per_s, "Tokens per second that are to be reached");
  app.add_option("--max-ttft", o->plan.max_ttft_s, "Seconds to the first token after a prompt, at most");
  app.add_option("--calib", o->calib,
                 "Text to learn from (default: the recipe's, or pages that come with the program)");
  app.add_option("--data", o->data, "Examples to heal with (default: the text to learn from)");
  app.add_option("--eval", o->eval, "Text to measure on (default: the recipe's, or pages that come with the program)");
  app.add_option("--chunks", o->eval_chunks, "Chunks of 512 tokens of it (default: 20)")->check(CLI::Range(1, 1000000));
  app.add_option("-o,--output", o->out, "Folder of the run");
  app.add_option("-t,--threads", o->run.n_threads, "Threads (default: the CPUs this process may use)")
      ->check(CLI::Range(1, 1024));
  add_size_option(app, "--work-ram", o->run.ram, "Memory that the stages may take here (default: what is free)");
  app.add_flag("--resume", o->run.resume, "Go on with the run in the folder");
  app.add_flag("--keep", o->run.keep, "Keep checkpoints that later stages have read");
  app.add_flag("--plan", o->only_plan, "Only say what would fit, from shapes alone");
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  shoehorn fit Llama-3.1-8B --device rpi5-8g --plan\n"
      "  shoehorn fit Llama-3.1-8B --device rpi4-4g --ram 3G --calib text.txt --eval other.txt -o run\n"
      "  shoehorn fit recipe.toml -o run --resume\n\n"
      "Plans, makes, measures: the folder then has the GGUF, recipe.toml, report.html, results.json, run.log and what "
      "every stage printed.");
  return [o] { return fit_model(*o); };
}

}  // namespace shoehorn::cli
