#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "cli/answers_file.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/session_flags.h"
#include "eval/task.h"

namespace shoehorn::cli {
namespace {

using eval::Evaluation;
using eval::ItemResult;
using eval::Metric;

struct Options {
  SessionFlags session;
  std::string task;
  eval::TaskOptions run;
  std::string compare_path, kl_base, answers_path;
  std::vector<std::string> paired;
  eval::BootstrapOptions bootstrap;
  std::optional<int64_t> shots, max_tokens;
  bool chat = false, no_chat = false, json = false;
};

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

/// Name, size and time of change: enough to tell that a file is another one.
Json identity(const std::string& path) {
  if (path.empty()) return nullptr;
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  const auto time = std::filesystem::last_write_time(path, error).time_since_epoch().count();
  return {path, size, static_cast<int64_t>(time)};
}

/// What must be the same for a run to go on from another one's answers.
Json run_of(const Options& o, const std::string& model_path) {
  Json run = {{"version", SHOEHORN_VERSION},     {"task", o.task},
              {"model", identity(model_path)},   {"kl_base", identity(o.kl_base)},
              {"file", identity(o.run.path)},    {"labels", identity(o.run.labels_path)},
              {"dev", identity(o.run.dev_path)}, {"n_ctx", o.session.n_ctx},
              {"n_batch", o.session.n_batch},    {"cache", {o.session.cache_type_k, o.session.cache_type_v}},
              {"cache_rotation", static_cast<int>(o.session.cache_rotation)}};
  if (o.run.shots) run["shots"] = *o.run.shots;
  if (o.run.max_tokens) run["max_tokens"] = *o.run.max_tokens;
  if (o.run.chat) run["chat"] = *o.run.chat;
  return run;
}

Json interval_json(double value, const eval::Interval& interval) {
  return {{"value", value}, {"low", interval.low}, {"high", interval.high}};
}

std::string show(double x, const Metric& metric) { return fmt::format("{:.{}f}", x, metric.digits); }

/// The figures of one model.
Status report_metrics(const std::vector<const Metric*>& metrics, const std::vector<ItemResult>& items, const Options& o,
                      Json& json, std::vector<std::vector<std::string>>& table) {
  table.push_back({"", "value", "95 % from", "to", ""});
  for (const Metric* metric : metrics) {
    SHOEHORN_TRY(const auto rows, rows_of(*metric, items));
    const eval::Estimate figure = estimate(*metric, rows, o.bootstrap);
    json[metric->name] = figure.value;
    json["metrics"][metric->name] = interval_json(figure.value, figure.interval);
    table.push_back({metric->name, show(figure.value, *metric), show(figure.interval.low, *metric),
                     show(figure.interval.high, *metric), metric->meaning});
  }
  return {};
}

/// Two models on the items that both answered.
Status report_comparison(const std::vector<const Metric*>& metrics, const std::vector<ItemResult>& a,
                         const std::vector<ItemResult>& b, const Options& o, Json& json,
                         std::vector<std::vector<std::string>>& table) {
  SHOEHORN_TRY(const eval::PairedItems pairs, eval::pair_items(a, b));
  json["items"] = pairs.a.size();
  table.push_back({"", "first", "second", "difference", "95 % from", "to", "p", "only first", "only second"});
  for (const Metric* metric : metrics) {
    SHOEHORN_TRY(const auto rows_a, rows_of(*metric, pairs.a));
    SHOEHORN_TRY(const auto rows_b, rows_of(*metric, pairs.b));
    const eval::Difference difference = compare(*metric, rows_a, rows_b, o.bootstrap);
    const double first = estimate(*metric, rows_a, {.resamples = 1, .seed = 0}).value;
    const double second = estimate(*metric, rows_b, {.resamples = 1, .seed = 0}).value;
    Json& out = json["metrics"][metric->name];
    out = interval_json(difference.value, difference.interval);
    out.update({{"first", first}, {"second", second}, {"p", difference.p}});
    std::vector<std::string> row = {metric->name,
                                    show(first, *metric),
                                    show(second, *metric),
                                    show(difference.value, *metric),
                                    show(difference.interval.low, *metric),
                                    show(difference.interval.high, *metric),
                                    fmt::format("{:.2g}", difference.p)};
    if (metric->kind == Metric::Kind::kProportion) {
      out.update({{"only_first", difference.only_a}, {"only_second", difference.only_b}});
      row.push_back(std::to_string(difference.only_a));
      row.push_back(std::to_string(difference.only_b));
    }
    table.push_back(std::move(row));
  }
  return {};
}

Status compare_answers(const Options& o) {
  SHOEHORN_TRY(const auto a, read_answers(o.paired[0]));
  SHOEHORN_TRY(const auto b, read_answers(o.paired[1]));
  std::vector<const Metric*> metrics;
  const Json& first = a[0].record;
  if (first.contains("sums") && first["sums"].is_object()) {
    for (const auto& [name, row] : first["sums"].items()) {
      const bool in_both = b[0].record.contains("sums") && b[0].record["sums"].contains(name);
      if (const Metric* metric = eval::find_metric(name); metric != nullptr && in_both) metrics.push_back(metric);
    }
  }
  if (metrics.empty()) return fail(ErrorCode::kInvalid, "{} and {} have no figure in common", o.paired[0], o.paired[1]);
  Json json = {{"first", o.paired[0]}, {"second", o.paired[1]}};
  std::vector<std::vector<std::string>> table;
  SHOEHORN_RETURN_IF_ERROR(report_comparison(metrics, a, b, o, json, table));
  const size_t n = json["items"].get<size_t>();
  if (n < std::max(a.size(), b.size())) {
    remark(fmt::format("{} items are in both files, of {} and {}", n, a.size(), b.size()));
  }
  if (o.json) {
    print_json(json);
  } else {
    print(fmt::format("{} items; first {}, second {}\n", n, o.paired[0], o.paired[1]) + format_table(table));
  }
  return {};
}

Expected<Evaluation> evaluate(const Options& o, const eval::Task& task, const std::string& model_path,
                              const std::string& answers_path, Progress& progress) {
  SHOEHORN_TRY(const auto options, o.session.session_options());
  SHOEHORN_TRY(auto model, o.session.open_model(model_path));
  const eval::Subject subject = {.model = std::move(model), .session = options};
  std::optional<eval::Subject> base;
  if (!o.kl_base.empty()) {
    SHOEHORN_TRY(auto base_model, o.session.open_model(o.kl_base));
    base = eval::Subject{.model = std::move(base_model), .session = options};
  }
  eval::NoItemLog none;
  std::optional<AnswersFile> answers;
  if (!answers_path.empty()) {
    SHOEHORN_TRY(auto opened, AnswersFile::open(answers_path, run_of(o, model_path)));
    answers.emplace(std::move(opened));
    if (answers->n_found() > 0)
      remark(fmt::format("{} answers are there from a run that was stopped", answers->n_found()));
  }
  eval::ItemLog& log = answers ? static_cast<eval::ItemLog&>(*answers) : none;
  auto result = task.run(
      {.options = o.run, .subject = subject, .base = base ? &*base : nullptr, .log = log, .progress = progress});
  if (!result) {
    if (result.error().code == ErrorCode::kCancelled && answers) {
      remark(fmt::format("what was answered is in {}.partial; the same command goes on from there", answers_path));
    }
    return result;
  }
  if (answers) SHOEHORN_RETURN_IF_ERROR(answers->commit(result->items));
  for (const std::string& text : result->remarks) remark(text);
  return result;
}

Status run_eval(Options o) {
  if (!o.paired.empty()) return compare_answers(o);
  const eval::Task* task = eval::find_task(o.task);
  if (o.chat || o.no_chat) o.run.chat = o.chat;
  if (o.shots) o.run.shots = static_cast<size_t>(*o.shots);
  if (o.max_tokens) o.run.max_tokens = *o.max_tokens;
  if (!o.kl_base.empty() && !task->takes_base) return fail(ErrorCode::kInvalid, "{} makes no use of --kl-base", o.task);
  if (o.task == "perplexity" && o.session.n_ctx == 0) o.session.n_ctx = 512;

  const auto progress = make_progress();
  const auto start = std::chrono::steady_clock::now();
  SHOEHORN_TRY(const Evaluation result, evaluate(o, *task, o.session.model_path, o.answers_path, *progress));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Json json = {{"task", o.task},
               {"model", o.session.model_path},
               {"file", o.run.path},
               {"items", result.items.size()},
               {"seconds", seconds}};
  json.update(result.facts);
  std::vector<std::vector<std::string>> table, comparison;
  SHOEHORN_RETURN_IF_ERROR(report_metrics(result.metrics, result.items, o, json, table));
  if (!o.compare_path.empty()) {
    SHOEHORN_TRY(const Evaluation other, evaluate(o, *task, o.compare_path, {}, *progress));
    json["compare"]["model"] = o.compare_path;
    SHOEHORN_RETURN_IF_ERROR(
        report_comparison(result.metrics, result.items, other.items, o, json["compare"], comparison));
  }
  if (o.json) {
    print_json(json);
    return {};
  }
  std::string text = fmt::format("{}: {} items of {}, {}, {:.1f} s\n", o.task, result.items.size(),
                                 file_name(o.run.path), file_name(o.session.model_path), seconds);
  for (const auto& [name, value] : result.facts.items()) text += fmt::format("{} {}  ", name, value.dump());
  text += "\n\n" + format_table(table);
  if (!comparison.empty()) text += fmt::format("\nagainst {}\n", file_name(o.compare_path)) + format_table(comparison);
  text.pop_back();
  print(text);
  return {};
}

std::string task_names() {
  std::string names;
  for (const eval::Task& task : eval::tasks()) names += std::string(names.empty() ? "" : ", ") + task.name;
  return names;
}

}  // namespace

std::function<Status()> define_eval(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  o->session.add_to(app, 0, "Context in tokens (default: the trained one, at most 4096; perplexity: 512)");
  std::vector<std::string> names;
  for (const eval::Task& known : eval::tasks()) names.emplace_back(known.name);
  auto* model = app.get_option("--model")->required(false);
  auto* task = app.add_option("--task", o->task, "One of " + task_names())->check(CLI::IsMember(names));
  auto* file = app.add_option("-f,--file", o->run.path, "The questions; docs/evaluation.md has the forms");
  app.add_option("--labels", o->run.labels_path, "PIQA's labels (default: X-labels.lst beside X.jsonl)");
  app.add_option("--dev", o->run.dev_path, "File that examples are taken from, in the form of the questions");
  app.add_option("--shots", o->shots, "Examples before each question (default: 5 with --dev, else 0)")
      ->check(CLI::Range(0, 1000));
  app.add_option("--limit", o->run.limit, "Only the first so many questions (chunks of a text)");
  app.add_option("-n,--predict,--n-predict", o->max_tokens, "Tokens of a generated answer (default: the task's)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--parallel", o->run.n_parallel, "Answers generated side by side (also -np)")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  auto* chat = app.add_flag("--chat-template", o->chat, "Put gsm8k's questions into the model's chat template");
  app.add_flag("--no-chat-template", o->no_chat, "Give the prompts of the task answers as they are")->excludes(chat);
  add_model_option(app, "--kl-base", o->kl_base,
                   "perplexity, answers: compare the probabilities with those of the uncompressed model, a GGUF or checkpoint");
  add_model_option(app, "--compare", o->compare_path, "Compare item by item with this GGUF or checkpoint");
  app.add_option("--answers", o->answers_path, "Write all prompts, answers and scores here, one JSON object a line");
  auto* paired = app.add_option("--paired", o->paired, "Compare two files of answers, without a model")->expected(2);
  app.add_option("--seed", o->bootstrap.seed, "Seed of the bootstrap's draws")->capture_default_str();
  app.add_option("--bootstrap", o->bootstrap.resamples, "Draws of the bootstrap")
      ->check(CLI::Range(100, 1000000))
      ->capture_default_str();
  app.add_flag("--json", o->json, "Print one JSON object");
  app.footer(
      "Examples:\n"
      "  shoehorn eval -m model.gguf --task hellaswag -f hellaswag_val_full.txt --limit 400\n"
      "  shoehorn eval -m model-Q3_K_M.gguf --task arc -f arc_challenge.jsonl --compare model-F16.gguf\n"
      "  shoehorn eval -m model.gguf --task gsm8k -f test.jsonl --dev train.jsonl --shots 5 --answers answers.jsonl\n"
      "  shoehorn eval --paired a.jsonl b.jsonl\n\n"
      "Intervals cover 95 %: Wilson's for accuracies, a bootstrap over the items for the rest.");
  app.callback([=] {
    if (paired->count() > 0) return;
    for (const auto* option : {model, task, file}) {
      if (option->count() == 0) throw CLI::RequiredError(option->get_name());
    }
  });
  return [o] { return run_eval(*o); };
}

}  // namespace shoehorn::cli
