#include "fit/runner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/hash.h"
#include "base/memory.h"
#include "base/output_file.h"
#include "base/subprocess.h"

namespace shoehorn::fit {
namespace {
namespace fs = std::filesystem;

constexpr int kEvalContext = 512;
/// Logarithms of the perplexities of a checkpoint and of the same weights as a GGUF differ by rounding alone.
constexpr double kParity = 0.005;

std::string now_text() {
  char text[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

std::string shell_line(const std::vector<std::string>& words) {
  std::string out = "shoehorn";
  for (const std::string& word : words) out += " " + shell_word(word);
  return out;
}

Status append(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::app);
  out << text << std::flush;
  return out ? Status() : fail(ErrorCode::kIo, "{}: cannot be written", path);
}

/// Size and time of a file, or of all in a folder: what a stage read is still the same.
std::string state_of(const std::string& path) {
  Fnv1a hash;
  const auto add = [&](const fs::path& file) {
    std::error_code error;
    const std::string text = fmt::format("{} {} {}\n", file.string(), fs::file_size(file, error),
                                         fs::last_write_time(file, error).time_since_epoch().count());
    hash.add(std::as_bytes(std::span(text)));
  };
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    add(path);
  } else {
    std::set<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path, error)) files.insert(entry.path());
    for (const fs::path& file : files) add(file);
  }
  return fmt::format("{:016x}", hash.value());
}

bool is_model(const Stage& stage) { return stage.writes_checkpoint() || stage.writes_gguf(); }

class Run {
 public:
  Run(const Recipe& recipe, const RunOptions& options, Progress& progress)
      : recipe_(recipe), o_(options), progress_(progress) {
    paths_ = {{"model", recipe.model}, {"calib", recipe.calib}, {"data", recipe.data}, {"eval", recipe.eval}};
    for (const Stage& stage : recipe.stages) paths_[stage.name] = output(stage);
  }

  Expected<std::vector<Result>> run() {
    std::error_code error;
    fs::create_directories(o_.directory + "/records", error);
    if (error) return fail(ErrorCode::kIo, "{}: {}", o_.directory, error.message());
    std::vector<Result> results;
    SHOEHORN_TRY(const Result source, measure("source", recipe_.model, false));
    results.push_back(source);
    for (size_t i = 0; i < recipe_.stages.size(); ++i) {
      const Stage& stage = recipe_.stages[i];
      const std::string where =
          fmt::format("stage {} of {}, {} ({})", i + 1, recipe_.stages.size(), stage.name, stage.command);
      progress_.note(where);
      if (auto done = make(i); !done) return annotate(std::move(done).error(), where);
      if (is_model(stage)) {
        auto result = measure(stage.name, output(stage), true);
        if (!result) return annotate(std::move(result).error(), where);
        result->is_gguf = stage.writes_gguf();
        const Result& from = *std::ranges::find(results, stage.in == "model" ? "source" : stage.in, &Result::name);
        if (const Status passes = gate(stage, from, *result); !passes) return annotate(passes.error(), where);
        results.push_back(*result);
      }
      drop_unneeded(i);
    }
    for (Result& result : results) {
      if (result.is_gguf) SHOEHORN_RETURN_IF_ERROR(time(result));
    }
    fs::remove(states(), error);
    return results;
  }

  Expected<Needs> needs() {
    SHOEHORN_TRY(const ModelFacts model, read_model_facts(recipe_.model));
    const uint64_t states_bytes =
        static_cast<uint64_t>(recipe_.eval_chunks) * kEvalContext / 2 * model.hparams.n_embd * sizeof(float);
    return needs_of(recipe_, model, states_bytes, o_.keep, [&](const Stage& stage) { return ask(stage); });
  }

 private:
  /// The model's last activations on the text that all is measured on: every comparison needs them.
  std::string states() const { return o_.directory + "/records/source.states"; }
  std::string record(const std::string& name) const { return o_.directory + "/records/" + name + ".json"; }
  std::string origin(const std::string& name) const { return o_.directory + "/records/" + name + ".of"; }
  std::string output(const Stage& stage) const {
    return o_.directory + "/" + stage.name + (stage.writes_checkpoint() ? "" : ".gguf");
  }
  /// What a stage says that it would take, of the recipe's model.
  Expected<Json> ask(const Stage& stage) const {
    Stage as_if = stage;
    std::map<std::string, std::string> paths = paths_;
    for (const Stage& earlier : recipe_.stages) {
      if (is_model(earlier)) {
        paths[earlier.name] = recipe_.model;
      } else {
        // A matrix of importance changes no need.
        std::erase_if(as_if.options, [&](const auto& option) { return option.second == "@" + earlier.name; });
      }
    }
    std::vector<std::string> words = command_of(as_if, paths, output(stage));
    add_ram(stage.command, words);
    words.insert(words.begin(), o_.program);
    words.insert(words.end(), {"--estimate", "-q"});
    SHOEHORN_TRY(const std::string said, run_in_front(words, [&] { return progress_.cancelled(); }));
    return parse_json(said);
  }
  std::vector<std::string> words_of(const Stage& stage) const {
    std::vector<std::string> words = command_of(stage, paths_, output(stage));
    add_ram(stage.command, words);
    return words;
  }
  void add_ram(const std::string& command, std::vector<std::string>& words) const {
    if (o_.ram > 0 && command != "convert") words.insert(words.end(), {"--ram", std::to_string(o_.ram)});
  }

  /// What a record is of: the command, and the state of what it reads. Inputs that are gone count as they were.
  Json origin_of(const std::vector<std::string>& words, const std::string& out, const Json& before) const {
    Json of = {{"command", words}, {"inputs", Json::object()}};
    for (const std::string& word : words) {
      std::error_code error;
      if (word == out) continue;
      if (fs::exists(word, error)) {
        of["inputs"][word] = state_of(word);
      } else if (before.contains("inputs") && before["inputs"].contains(word)) {
        of["inputs"][word] = before["inputs"][word];
      }
    }
    return of;
  }

  /// The record is there and of this command and these inputs.
  bool has_record(const std::string& name, const std::vector<std::string>& words, const std::string& out) const {
    std::error_code error;
    if (!fs::exists(record(name), error)) return false;
    const auto before = read_json(origin(name));
    return before && *before == origin_of(words, out, *before);
  }

  /// The stage needs not run: its output is there, or was and has served all who read it.
  bool is_over(size_t i) const {
    const Stage& stage = recipe_.stages[i];
    if (!has_record(stage.name, words_of(stage), output(stage))) return false;
    std::error_code error;
    if (fs::exists(output(stage), error)) return true;
    if (!stage.writes_checkpoint() || o_.keep || !fs::exists(record(stage.name + "-perplexity"), error)) return false;
    for (size_t later = i + 1; later < recipe_.stages.size(); ++later) {
      if (recipe_.stages[later].reads(stage.name) && !is_over(later)) return false;
    }
    return true;
  }

  /// Runs a command and keeps what it prints. `more` are words that make no difference to what comes out.
  Status command(const std::string& name, std::vector<std::string> words, const std::string& out,
                 const std::vector<std::string>& more) {
    const Json of = origin_of(words, out, Json::object());
    words.insert(words.end(), more.begin(), more.end());
    if (words.front() != "bench") words.push_back("--json");
    if (o_.quiet) words.push_back("-q");
    const std::string log = o_.directory + "/run.log";
    SHOEHORN_RETURN_IF_ERROR(append(log, fmt::format("{} {}\n", now_text(), shell_line(words))));
    const auto begun = std::chrono::steady_clock::now();
    words.insert(words.begin(), o_.program);
    const auto said = run_in_front(words, [&] { return progress_.cancelled(); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begun;
    SHOEHORN_RETURN_IF_ERROR(append(
        log, fmt::format("{} {} after {:.1f} s\n", now_text(), said ? "done" : said.error().message, seconds.count())));
    if (!said) return tl::unexpected(said.error());
    // The record last: without it the command counts as not run.
    SHOEHORN_RETURN_IF_ERROR(write_file(origin(name), of.dump(2)));
    return write_file(record(name), *said);
  }

  Status make(size_t i) {
    const Stage& stage = recipe_.stages[i];
    const std::string out = output(stage);
    std::error_code error;
    if (o_.resume && is_over(i)) return {};
    if (fs::exists(out, error) && !o_.resume)
      return fail(ErrorCode::kInvalid, "{} is there already: --resume goes on with it, or take another folder", out);
    // Made of something else, or killed before it was said that it is made.
    discard(stage);
    return command(stage.name, words_of(stage), out,
                   stage.command == "convert" ? std::vector<std::string>() : std::vector<std::string>{"--resume"});
  }

  /// Perplexity, and with `against_source` the distance from the recipe's model.
  Expected<Result> measure(const std::string& name, const std::string& model, bool against_source) {
    std::vector<std::string> words = {"perplexity",
                                      "-m",
                                      model,
                                      "-f",
                                      recipe_.eval,
                                      "-c",
                                      std::to_string(kEvalContext),
                                      "--chunks",
                                      std::to_string(recipe_.eval_chunks)};
    if (against_source) words.insert(words.end(), {"--kl-base", recipe_.model});
    add_ram("perplexity", words);
    const std::string key = name + "-perplexity";
    if (!o_.resume || !has_record(key, words, ""))
      SHOEHORN_RETURN_IF_ERROR(command(key, std::move(words), "", {"--states", states()}));
    SHOEHORN_TRY(const Json json, read_json(record(key)));
    return Result{.name = name,
                  .path = model,
                  .ppl = json_or(json, "ppl", 0.0),
                  .ppl_err = json_or(json, "ppl_err", 0.0),
                  .kl = json_or(json, "kld_mean", 0.0),
                  .kl_err = json_or(json, "kld_err", 0.0),
                  .top1 = json_or(json, "top1", 0.0),
                  .tokens = json_or(json, "tokens", int64_t{0}),
                  .bytes = json_or(json, "bytes", uint64_t{0}),
                  .parameters = json_or(json, "parameters", uint64_t{0})};
  }

  /// The papers' test: a prompt of 512 tokens, an answer of 128.
  Status time(Result& result) {
    const uint64_t room = o_.ram > 0 ? o_.ram : available_memory();
    if (result.bytes >= room) {
      progress_.note(fmt::format(
          "{} is not timed: its {} are more than the memory, {}, and every token would read them from the disk",
          result.path, format_bytes(result.bytes), format_bytes(room)));
      return {};
    }
    const std::string key = result.name + "-bench";
    std::vector<std::string> words = {"bench", "-m",      result.path, "-p", "512", "-n",  "128",
                                      "-pg",   "512,128", "-r",        "3",  "-o",  "json"};
    if (o_.n_threads > 0) words.insert(words.end(), {"-t", std::to_string(o_.n_threads)});
    if (!o_.resume || !has_record(key, words, "")) SHOEHORN_RETURN_IF_ERROR(command(key, std::move(words), "", {}));
    SHOEHORN_TRY(result.bench, read_json(record(key)));
    return {};
  }

  /// `from`: what the stage read.
  static Status gate(const Stage& stage, const Result& from, const Result& result) {
    if (!std::isfinite(result.ppl) || result.ppl <= 0)
      return fail(ErrorCode::kInvalid, "its perplexity is {}", result.ppl);
    // Another format of the same weights.
    if (stage.command == "convert" && !(std::abs(std::log(result.ppl / from.ppl)) <= kParity)) {
      return fail(ErrorCode::kInvalid, "its perplexity is {:.5f}, that of {} {:.5f}: they should be the same", result.ppl, from.name,
                  from.ppl);
    }
    if (stage.max_kl > 0 && !(result.kl <= stage.max_kl)) {
      return fail(ErrorCode::kInvalid, "its KL divergence from the model is {:.4f}, the recipe allows {}", result.kl,
                  stage.max_kl);
    }
    return {};
  }

  /// Removes what a stage made, all at once for who looks in its place: after a kill, half a checkpoint would count as one.
  void discard(const Stage& stage) const {
    const std::string aside = o_.directory + "/records/" + stage.name + ".dropped";
    std::error_code error;
    fs::remove_all(aside, error);
    fs::rename(output(stage), aside, error);
    fs::remove_all(aside, error);
  }

  /// Removes checkpoints that no stage after i reads.
  void drop_unneeded(size_t i) const {
    for (size_t made = 0; made <= i && !o_.keep; ++made) {
      if (recipe_.drops(made, i)) discard(recipe_.stages[made]);
    }
  }

  const Recipe& recipe_;
  const RunOptions& o_;
  Progress& progress_;
  std::map<std::string, std::string> paths_;
};

}  // namespace

std::vector<std::string> command_of(const Stage& stage, const std::map<std::string, std::string>& paths,
                                    const std::string& out) {
  std::vector<std::string> words = {stage.command};
  const std::string& in = paths.at(stage.in);
  if (stage.command == "imatrix") {
    words.insert(words.end(), {"-m", in, "-o", out});
  } else if (stage.writes_checkpoint()) {
    words.insert(words.end(), {in, "-o", out});
  } else {
    words.insert(words.end(), {in, out});
    if (stage.command == "quantize") words.push_back(stage.type);
  }
  for (const auto& [key, value] : stage.options) {
    words.push_back("--" + key);
    if (value != "true") words.push_back(value.starts_with('@') ? paths.at(value.substr(1)) : value);
  }
  return words;
}

Expected<Needs> estimate_recipe(const Recipe& recipe, const RunOptions& options, Progress& progress) {
  return Run(recipe, options, progress).needs();
}

Expected<std::vector<Result>> run_recipe(const Recipe& recipe, const RunOptions& options, Progress& progress) {
  return Run(recipe, options, progress).run();
}

}  // namespace shoehorn::fit
