#include "eval/bench.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "base/memory.h"
#include "base/thread_pool.h"
#include "cli/command.h"
#include "cli/open_model.h"
#include "cli/session_flags.h"
#include "eval/machine.h"
#include "quant/mix.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string model_path, output = "md";
  std::vector<size_t> n_prompt = {512}, n_gen = {128}, n_depth = {0};
  std::vector<size_t> prompt_gen;  // pairs
  std::vector<size_t> n_batch = {2048}, n_ubatch = {512};
  std::vector<int> n_threads = {0};
  std::vector<std::string> type_k = {"f16"}, type_v = {"f16"};
  size_t n_ctx = 0;
  size_t repetitions = 5;
  bool no_warm_up = false;
};

/// One combination of the settings that need a session of their own.
struct Setting {
  int n_threads;
  size_t n_batch, n_ubatch;
  std::string type_k, type_v;
};

/// A measured test with the setting that it ran under.
struct Row {
  Setting setting;
  eval::BenchResult result;
  uint64_t logits_hash;
  eval::Ceilings ceilings = {};
};

std::vector<Setting> settings(const Options& o) {
  std::vector<Setting> all;
  for (const int n_threads : o.n_threads)
    for (const size_t n_batch : o.n_batch)
      for (const size_t n_ubatch : o.n_ubatch)
        for (const std::string& type_k : o.type_k)
          for (const std::string& type_v : o.type_v)
            all.push_back({n_threads > 0 ? n_threads : default_thread_count(), n_batch, n_ubatch, type_k, type_v});
  return all;
}

std::vector<eval::BenchTest> tests(const Options& o) {
  std::vector<eval::BenchTest> all;
  for (const size_t depth : o.n_depth) {
    for (const size_t n : o.n_prompt) all.push_back({n, 0, depth});
    for (const size_t n : o.n_gen) all.push_back({0, n, depth});
    for (size_t i = 0; i + 1 < o.prompt_gen.size(); i += 2)
      all.push_back({o.prompt_gen[i], o.prompt_gen[i + 1], depth});
  }
  std::erase_if(all, [](const eval::BenchTest& test) { return test.n_prompt + test.n_gen == 0; });
  return all;
}

/// What the reports say about the model.
struct ModelInfo {
  std::string type;  // "llama 1.24 B Q4_K_M"
  uint64_t bytes = 0, n_params = 0;
  std::string isa;
};

ModelInfo describe(const engine::Model& model) {
  ModelInfo info;
  for (const io::GgufTensor& tensor : model.file().tensors()) {
    info.bytes += tensor.data.size();
    info.n_params += tensor.n_elements();
  }
  info.isa = model.kernel_set().isa;
  std::string mix = "unknown mix";
  if (const auto file_type = model.file().metadata().get_uint("general.file_type")) {
    for (const quant::Mix& m : quant::mixes()) {
      if (m.file_type == *file_type) mix = m.name;
    }
  }
  const auto n = static_cast<double>(info.n_params);
  const std::string size = n >= 1e9 ? fmt::format("{:.2f} B", n * 1e-9) : fmt::format("{:.2f} M", n * 1e-6);
  info.type = fmt::format("{} {} {}", model.architecture().name, size, mix);
  return info;
}

/// One test with llama-bench's keys and ours, in the order of the CSV's columns.
std::vector<std::pair<const char*, Json>> fields(const Options& o, const ModelInfo& model, const Row& row) {
  const eval::BenchResult& r = row.result;
  const Setting& s = row.setting;
  return {{"build_commit", SHOEHORN_VERSION},
          {"build_number", 0},
          {"cpu_info", eval::cpu_name()},
          {"gpu_info", ""},
          {"backends", "CPU"},
          {"isa", model.isa},
          {"model_filename", o.model_path},
          {"model_type", model.type},
          {"model_size", model.bytes},
          {"model_n_params", model.n_params},
          {"n_batch", s.n_batch},
          {"n_ubatch", s.n_ubatch},
          {"n_threads", s.n_threads},
          {"type_k", s.type_k},
          {"type_v", s.type_v},
          {"n_gpu_layers", 0},
          {"n_prompt", r.test.n_prompt},
          {"n_gen", r.test.n_gen},
          {"n_depth", r.test.n_depth},
          {"test_time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(r.started))},
          {"avg_ns", static_cast<uint64_t>(r.avg_ns)},
          {"stddev_ns", static_cast<uint64_t>(r.stddev_ns)},
          {"avg_ts", r.avg_ts},
          {"stddev_ts", r.stddev_ts},
          {"ttft_ms", r.ttft_ms},
          {"ttlt_ms", r.ttlt_ms},
          {"peak_rss", r.peak_rss},
          {"mbu", r.mbu(row.ceilings.read_bytes)},
          {"read_gbs", row.ceilings.read_bytes * 1e-9},
          {"int8_gmacs", row.ceilings.macs * 1e-9},
          {"joules", nullptr},
          {"logits_hash", fmt::format("{:016x}", row.logits_hash)}};
}

void print_json_rows(const Options& o, const ModelInfo& model, const std::vector<Row>& rows) {
  Json all = Json::array();
  for (const Row& row : rows) {
    Json object;
    for (auto& [key, value] : fields(o, model, row)) object[key] = std::move(value);
    object["samples_ns"] = row.result.samples_ns;
    object["samples_ts"] = row.result.samples_ts;
    all.push_back(std::move(object));
  }
  print_json(all);
}

void print_csv(const Options& o, const ModelInfo& model, const std::vector<Row>& rows) {
  const auto join = [](const std::vector<std::string>& cells) { return fmt::format("{}", fmt::join(cells, ",")); };
  const auto quote = [](const Json& value) {
    if (value.is_null()) return std::string();
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + "\"";
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<std::string> header, cells;
    for (const auto& [key, value] : fields(o, model, rows[i])) {
      header.emplace_back(key);
      cells.push_back(quote(value));
    }
    if (i == 0) print(join(header));
    print(join(cells));
  }
}

/// llama-bench's table: settings have a column when they differ from the default or from test to test.
void print_markdown(const Options& o, const ModelInfo& model, const std::vector<Row>& rows) {
  struct Column {
    const char* title;
    bool right;
    std::function<std::string(const Row&)> cell;
  };
  const Options defaults;
  std::vector<Column> columns = {
      {"model", false, [&](const Row&) { return model.type; }},
      {"size", true, [&](const Row&) { return format_bytes(model.bytes); }},
      {"isa", false, [&](const Row&) { return model.isa; }},
      {"threads", true, [](const Row& r) { return fmt::format("{}", r.setting.n_threads); }}};
  if (o.n_batch != defaults.n_batch)
    columns.push_back({"n_batch", true, [](const Row& r) { return fmt::format("{}", r.setting.n_batch); }});
  if (o.n_ubatch != defaults.n_ubatch)
    columns.push_back({"n_ubatch", true, [](const Row& r) { return fmt::format("{}", r.setting.n_ubatch); }});
  if (o.type_k != defaults.type_k) columns.push_back({"type_k", false, [](const Row& r) { return r.setting.type_k; }});
  if (o.type_v != defaults.type_v) columns.push_back({"type_v", false, [](const Row& r) { return r.setting.type_v; }});
  columns.push_back({"test", true, [](const Row& r) { return r.result.test.name(); }});
  columns.push_back(
      {"t/s", true, [](const Row& r) { return fmt::format("{:.2f} ± {:.2f}", r.result.avg_ts, r.result.stddev_ts); }});
  columns.push_back({"ttft ms", true, [](const Row& r) { return fmt::format("{:.1f}", r.result.ttft_ms); }});
  columns.push_back({"ttlt ms", true, [](const Row& r) { return fmt::format("{:.1f}", r.result.ttlt_ms); }});
  columns.push_back(
      {"mbu", true, [](const Row& r) { return fmt::format("{:.0f} %", 100 * r.result.mbu(r.ceilings.read_bytes)); }});

  std::vector<std::vector<std::string>> cells(rows.size());
  std::vector<size_t> widths;
  for (const Column& column : columns) {
    size_t width = std::string_view(column.title).size();
    for (size_t i = 0; i < rows.size(); ++i) {
      cells[i].push_back(column.cell(rows[i]));
      // fmt counts columns of text, not bytes: so does this for the one sign beyond ASCII.
      const size_t extra = cells[i].back().find("±") != std::string::npos ? 1 : 0;
      width = std::max(width, cells[i].back().size() - extra);
    }
    widths.push_back(width);
  }
  std::string header = "|", rule = "|";
  for (size_t c = 0; c < columns.size(); ++c) {
    header += columns[c].right ? fmt::format(" {:>{}} |", columns[c].title, widths[c])
                               : fmt::format(" {:<{}} |", columns[c].title, widths[c]);
    rule += fmt::format(" {:-<{}}{} |", "", widths[c] - 1, columns[c].right ? ":" : "-");
  }
  print(header + "\n" + rule);
  for (const auto& row : cells) {
    std::string line = "|";
    for (size_t c = 0; c < columns.size(); ++c) {
      line +=
          columns[c].right ? fmt::format(" {:>{}} |", row[c], widths[c]) : fmt::format(" {:<{}} |", row[c], widths[c]);
    }
    print(line);
  }

  std::map<std::string, eval::Ceilings> ceilings;
  std::vector<std::string> hashes;
  uint64_t peak = 0;
  for (const Row& row : rows) {
    ceilings[fmt::format("{} thread{}", row.setting.n_threads, row.setting.n_threads == 1 ? "" : "s")] = row.ceilings;
    const std::string hash = fmt::format("{:016x}", row.logits_hash);
    if (std::ranges::find(hashes, hash) == hashes.end()) hashes.push_back(hash);
    peak = std::max(peak, row.result.peak_rss);
  }
  print(fmt::format("\nlogits hash {}", fmt::join(hashes, " ")));
  std::vector<std::string> can;
  for (const auto& [threads, most] : ceilings) {
    can.push_back(fmt::format("with {} reads {:.1f} GB/s, multiplies {:.0f} GMAC/s", threads, most.read_bytes * 1e-9, most.macs * 1e-9));
  }
  print(fmt::format("{} {}; peak memory {}; shoehorn {}", eval::cpu_name(), fmt::join(can, ", "), format_bytes(peak),
                    SHOEHORN_VERSION));
}

Status run_bench(const Options& o) {
  const auto all_tests = tests(o);
  if (all_tests.empty()) return fail(ErrorCode::kInvalid, "nothing to measure: give -p, -n or -pg a number above 0");
  size_t n_ctx = eval::kHashPositions;
  for (const eval::BenchTest& test : all_tests) n_ctx = std::max(n_ctx, test.positions());
  if (o.n_ctx != 0) n_ctx = o.n_ctx;

  SHOEHORN_TRY(const auto model, open_model(o.model_path));
  const auto progress = make_progress();
  std::vector<Row> rows;
  for (const Setting& setting : settings(o)) {
    engine::SessionOptions options;
    options.n_ctx = n_ctx;
    options.n_batch = std::min(setting.n_batch, setting.n_ubatch);
    options.n_threads = setting.n_threads;
    SHOEHORN_TRY(options.key_type, parse_cache_type(setting.type_k));
    SHOEHORN_TRY(options.value_type, parse_cache_type(setting.type_v));
    SHOEHORN_TRY(auto session, engine::Session::create(model, options));
    SHOEHORN_TRY(auto results,
                 eval::bench(session, all_tests, {.repetitions = o.repetitions, .warm_up = !o.no_warm_up}, *progress));
    SHOEHORN_TRY(const uint64_t hash, eval::logits_hash(session));
    for (auto& result : results) rows.push_back({setting, std::move(result), hash});
  }
  // Last, because its buffer would count as peak memory.
  std::map<int, eval::Ceilings> ceilings;
  for (Row& row : rows) {
    const int n_threads = row.setting.n_threads;
    if (!ceilings.contains(n_threads)) {
      SHOEHORN_TRY(ceilings[n_threads], eval::measure_ceilings(model->kernels(), n_threads));
    }
    row.ceilings = ceilings[n_threads];
  }

  const ModelInfo info = describe(*model);
  if (o.output == "json") {
    print_json_rows(o, info, rows);
  } else if (o.output == "csv") {
    print_csv(o, info, rows);
  } else {
    print_markdown(o, info, rows);
  }
  return {};
}

/// An option that takes one value or several with commas between.
template <class T>
CLI::Option* add_list(CLI::App& app, const std::string& name, std::vector<T>& values, const std::string& help) {
  return app.add_option(name, values, help)->delimiter(',')->allow_extra_args(false)->capture_default_str();
}

}  // namespace

std::function<Status()> define_bench(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  const CLI::Range length(0, 1 << 24), positive(1, 1 << 24);
  app.add_option("-m,--model", o->model_path, "GGUF file, or a checkpoint's directory")->required();
  add_list(app, "-p,--n-prompt", o->n_prompt, "Prompt tokens to read, 0: none")->check(length);
  add_list(app, "-n,--n-gen", o->n_gen, "Tokens to generate, 0: none")->check(length);
  add_list(app, "--prompt-gen", o->prompt_gen, "PROMPT,GEN: both timed together (also -pg)")->check(length);
  add_list(app, "-d,--n-depth", o->n_depth, "Tokens in the context before, not timed")->check(length);
  app.add_option("-r,--repetitions", o->repetitions, "Timed repetitions of each test")
      ->check(positive)
      ->capture_default_str();
  add_list(app, "-t,--threads", o->n_threads, "Threads (default: the CPUs this process may use)")
      ->check(CLI::Range(1, 1024))
      ->default_str("");
  add_list(app, "-b,--batch-size", o->n_batch, "Tokens per batch; no more than --ubatch-size go through at once")
      ->check(positive);
  add_list(app, "--ubatch-size", o->n_ubatch, "Tokens per forward pass (also -ub)")->check(positive);
  add_list(app, "--cache-type-k", o->type_k, "KV cache type of keys: f32, f16, bf16, q8_0 ... (also -ctk)");
  add_list(app, "--cache-type-v", o->type_v, "KV cache type of values (also -ctv)");
  app.add_option("-c,--ctx-size", o->n_ctx, "Context in tokens (default: what the longest test takes)")
      ->check(positive);
  app.add_flag("--no-warmup", o->no_warm_up, "Time the first run of a test too");
  app.add_option("-o,--output", o->output, "md, csv, or json: llama-bench's array of tests")
      ->check(CLI::IsMember({"md", "csv", "json"}))
      ->capture_default_str();
  app.footer(
      "Options that show a list take several values, with commas between: every combination is measured.\n\n"
      "Examples:\n"
      "  shoehorn bench -m model.gguf                         512 tokens of prefill, 128 of decode\n"
      "  shoehorn bench -m model.gguf -p 0 -n 64 -d 0,4096    decode on an empty and on a long context\n"
      "  shoehorn bench -m model.gguf -t 1,2,4 -o json | jq -r '.[] | \"\\(.n_threads) \\(.avg_ts)\"'\n\n"
      "mbu is the share of the measured read bandwidth that the weights and the KV cache take at the measured rate.\n"
      "The hash of the logits is the same from run to run and for any number of threads.");
  return [o] {
    if (o->prompt_gen.size() % 2 != 0) {
      return Status(
          fail(ErrorCode::kInvalid, "-pg takes pairs, PROMPT,GEN; {} numbers were given", o->prompt_gen.size()));
    }
    return run_bench(*o);
  };
}

}  // namespace shoehorn::cli
