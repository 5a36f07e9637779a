#include <filesystem>
#include <memory>

#include "base/memory.h"
#include "base/output_file.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/size_option.h"
#include "eval/bundled_text.h"
#include "fit/plan.h"
#include "fit/probe.h"
#include "fit/runner.h"
#include "fit/speed.h"
#include "report/page.h"

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

std::string seconds_text(double seconds) {
  return seconds < 90     ? fmt::format("{:.3g} s", seconds)
         : seconds < 5400 ? fmt::format("{:.1f} min", seconds / 60)
                          : fmt::format("{:.1f} h", seconds / 3600);
}

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
                    fmt::format("{:.2f}e9", static_cast<double>(c.parameters) / 1e9), format_bytes(c.file_bytes),
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

/// The device that was named, or this machine, measured.
Expected<fit::Device> device_of(const Options& o, Progress& progress) {
  if (!o.device.empty()) return fit::find_device(o.device);
  fit::ProbeOptions options;
  options.n_threads = o.run.n_threads;
  return fit::probe(options, progress);
}

/// A name that a file may have.
std::string file_name_of(const std::string& name) {
  std::string out;
  for (const char c : name)
    out += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.' ? c : '-';
  while (!out.empty() && (out.front() == '.' || out.front() == '-')) out.erase(0, 1);
  return out.empty() ? "model" : out;
}

/// The plan's choice as stages.
fit::Recipe recipe_of(const fit::ModelFacts& model, const fit::Choice& choice) {
  fit::Recipe out;
  const std::string name = file_name_of(model.name);
  if (choice.width < 1) {
    const auto [first, end] = fit::pruned_layers(model.hparams.n_layer);
    out.stages.push_back({"prune",
                          "pruned",
                          "model",
                          "",
                          0,
                          {{"method", "obs"},
                           {"target", "mlp"},
                           {"layers", fmt::format("{}-{}", first, end - 1)},
                           {"ratio", fmt::format("{}", 1 - choice.width)},
                           {"calib", "@calib"}}});
    out.stages.push_back({"heal", "healed", "pruned", "", 0, {{"data", "@data"}, {"teacher", "@model"}}});
  }
  const std::string in = choice.width < 1 ? "healed" : "model";
  const bool quantized = quant::format(choice.mix->base).quantized;
  if (!quantized) {
    std::string type(choice.mix->name);
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    out.stages.push_back({"convert", name + "-" + std::string(choice.mix->name), in, "", 0, {{"type", type}}});
  } else {
    out.stages.push_back({"quantize",
                          name + "-" + std::string(choice.mix->name),
                          in,
                          std::string(choice.mix->name),
                          0,
                          {{"method", "gptq"}, {"calib", "@calib"}}});
  }
  return out;
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

/// What bench measured of a GGUF, and what was predicted of it.
struct Rates {
  double prompt_s = 0, tokens_per_s = 0, ttlt_s = 0, mbu = 0;
  uint64_t memory = 0;
  double predicted_tokens_per_s = 0, predicted_prompt_s = 0;
};

Expected<Rates> rates_of(const fit::Result& result, const std::optional<fit::Device>& device) {
  Rates out;
  for (const Json& test : result.bench) {
    const auto prompt = json_or(test, "n_prompt", int64_t{0}), gen = json_or(test, "n_gen", int64_t{0});
    if (gen == 0) out.prompt_s = json_or(test, "ttft_ms", 0.0) / 1e3;
    if (prompt == 0) {
      out.tokens_per_s = json_or(test, "avg_ts", 0.0);
      out.mbu = json_or(test, "mbu", 0.0);
    }
    if (prompt > 0 && gen > 0) out.ttlt_s = json_or(test, "ttlt_ms", 0.0) / 1e3;
    out.memory = std::max(out.memory, json_or(test, "peak_rss", uint64_t{0}));
  }
  if (!device) return out;
  NoProgress silent;
  SHOEHORN_TRY(const auto source, convert::ModelSource::open(result.path, silent));
  std::vector<quant::Type> types;
  for (const auto& tensor : source.tensors()) types.push_back(*tensor.type);
  const fit::Speed speed(*device, source, types);
  out.predicted_prompt_s = speed.prompt_seconds(512);
  out.predicted_tokens_per_s = speed.tokens_per_second(0, 128);
  return out;
}

std::string error_text(double predicted, double measured) {
  return predicted > 0 && measured > 0 ? fmt::format("{:+.0f} %", 100 * (predicted / measured - 1)) : "";
}

/// The table of a run, and results.json.
Status conclude(const Options& o, const std::vector<fit::Result>& results, const std::optional<fit::Device>& device) {
  std::vector<std::vector<std::string>> rows = {{"", "size", "parameters", "bits", "perplexity", "KL", "same top-1",
                                                 "TTFT", "TTLT", "tokens/s", "MBU", "memory", "predicted TTFT",
                                                 "tokens/s"}};
  Json all = Json::array();
  std::string last;
  for (const fit::Result& r : results) {
    std::error_code gone;
    std::vector<std::string> row = {r.name, "", "", ""};
    Json json = {{"name", r.name}, {"path", r.path}, {"ppl", r.ppl}, {"ppl_err", r.ppl_err}, {"tokens", r.tokens}};
    if (fs::exists(r.path, gone)) {
      SHOEHORN_TRY(const auto facts, fit::read_model_facts(r.path));
      const uint64_t parameters = models::count_parameters(*facts.architecture, facts.hparams);
      uint64_t bytes = 0;
      if (r.is_gguf) {
        bytes = fs::file_size(r.path, gone);
      } else if (fs::is_directory(r.path, gone)) {
        for (const auto& file : fs::directory_iterator(r.path, gone)) {
          const std::string extension = file.path().extension().string();
          if (extension == ".safetensors" || extension == ".bin") bytes += fs::file_size(file.path(), gone);
        }
      }
      row = {r.name, format_bytes(bytes), fmt::format("{}", parameters),
             fmt::format("{:.3f}", 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters))};
      json["bytes"] = bytes;
      json["parameters"] = parameters;
    }
    row.push_back(fmt::format("{:.3f} +/- {:.3f}", r.ppl, r.ppl_err));
    row.push_back(r.name == "source" ? "" : fmt::format("{:.5f} +/- {:.5f}", r.kl, r.kl_err));
    row.push_back(r.name == "source" ? "" : fmt::format("{:.2f} %", 100 * r.top1));
    if (r.name != "source") json.update({{"kld_mean", r.kl}, {"kld_err", r.kl_err}, {"top1", r.top1}});
    if (r.is_gguf) {
      SHOEHORN_TRY(const Rates rates, rates_of(r, device));
      row.insert(row.end(), {seconds_text(rates.prompt_s), seconds_text(rates.ttlt_s),
                             fmt::format("{:.4g}", rates.tokens_per_s), fmt::format("{:.0f} %", 100 * rates.mbu),
                             format_bytes(rates.memory), error_text(rates.predicted_prompt_s, rates.prompt_s),
                             error_text(rates.predicted_tokens_per_s, rates.tokens_per_s)});
      json.update({{"ttft_s", rates.prompt_s},
                   {"ttlt_s", rates.ttlt_s},
                   {"tokens_per_second", rates.tokens_per_s},
                   {"mbu", rates.mbu},
                   {"peak_rss", rates.memory},
                   {"predicted_ttft_s", device ? Json(rates.predicted_prompt_s) : Json()},
                   {"predicted_tokens_per_second", device ? Json(rates.predicted_tokens_per_s) : Json()}});
      last = r.path;
    }
    rows.push_back(std::move(row));
    all.push_back(std::move(json));
  }
  const Json document = {{"results", all}, {"model", last}};
  SHOEHORN_RETURN_IF_ERROR(write_file(o.out + "/results.json", document.dump(2)));
  const auto progress = make_progress();
  const std::string page = o.out + "/report.html";
  SHOEHORN_TRY(const auto run, report::read_run(o.out, page, *progress));
  SHOEHORN_RETURN_IF_ERROR(write_file(page, report::page(run)));
  if (o.json) {
    print_json(document);
    return {};
  }
  print(format_table(rows));
  print(
      fmt::format("{}: the page of this run. Perplexity and KL on {} predictions each.", page, results.front().tokens));
  if (!last.empty()) print(fmt::format("On the device: shoehorn run -m {}", fs::path(last).filename().string()));
  return {};
}

Status run_it(const Options& o, fit::Recipe recipe, const std::optional<fit::Device>& device) {
  if (o.out.empty()) return fail(ErrorCode::kInvalid, "-o DIR is needed: where the run goes (--plan does without)");
  std::error_code error;
  fs::create_directories(o.out, error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", o.out, error.message());
  SHOEHORN_RETURN_IF_ERROR(give_inputs(o, recipe));
  SHOEHORN_RETURN_IF_ERROR(write_file(o.out + "/recipe.toml", fit::to_toml(recipe)));
  fit::RunOptions options = o.run;
  options.directory = o.out;
  options.program = fs::read_symlink("/proc/self/exe", error).string();
  options.quiet = common().quiet;
  const auto progress = make_progress();
  SHOEHORN_TRY(const auto results, fit::run_recipe(recipe, options, *progress));
  return conclude(o, results, device);
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
    std::optional<fit::Device> device;
    if (!o.device.empty()) {
      SHOEHORN_TRY(device, fit::find_device(o.device));
    }
    return run_it(o, std::move(recipe), device);
  }
  SHOEHORN_TRY(const auto model, fit::read_model_facts(o.model));
  SHOEHORN_TRY(const auto device, device_of(o, *progress));
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
  fit::Recipe recipe = recipe_of(model, choice);
  recipe.model = o.model;
  // What was predicted for another machine cannot be checked on this one.
  return run_it(o, std::move(recipe), o.device.empty() ? std::optional(device) : std::nullopt);
}

}  // namespace

std::function<Status()> define_fit(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  add_model_option(app, "MODEL", o->model, "Checkpoint directory, a config.json alone for --plan, or a recipe (.toml)")
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
  app.add_option("-n,--n-gen", o->plan.n_answer, "Tokens of an answer")->check(CLI::Range(1, 1 << 20))->capture_default_str();
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
