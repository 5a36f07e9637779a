#include "eval/bench.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>

#include "base/thread_pool.h"
#include "cli/bench_power.h"
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/session_flags.h"

namespace shoehorn::cli {
namespace {

struct Options {
  std::string model_path, output = "md";
  std::vector<size_t> n_prompt = {512}, n_gen = {128}, n_depth = {0};
  std::vector<size_t> prompt_gen;  // pairs
  std::vector<size_t> n_batch = {2048}, n_ubatch = {512};
  std::vector<int> n_threads = {0};
  std::vector<std::string> type_k = {"f16"}, type_v = {"f16"};
  engine::CacheRotation cache_rotation = engine::CacheRotation::kWhereQuantized;
  size_t n_ctx = 0;
  size_t repetitions = 5;
  bool no_warm_up = false, profile = false, cold_start = false, no_mmap = false;
  double peak_gbs = 0;
  BenchPower power;
};

std::vector<BenchSetting> settings(const Options& o) {
  std::vector<BenchSetting> all;
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

Expected<engine::SessionOptions> session_options(const BenchSetting& setting, engine::CacheRotation rotation, size_t n_ctx) {
  engine::SessionOptions options;
  options.cache_rotation = rotation;
  options.n_ctx = n_ctx;
  options.n_batch = std::min(setting.n_batch, setting.n_ubatch);
  options.n_threads = setting.n_threads;
  SHOEHORN_TRY(options.key_type, parse_cache_type(setting.type_k));
  SHOEHORN_TRY(options.value_type, parse_cache_type(setting.type_v));
  return options;
}

/// Frequencies are compared among rows of as many threads: few busy cores run faster than all.
void taint_frequency_drops(std::vector<BenchRow>& rows) {
  std::map<int, std::vector<eval::Conditions*>> by_threads;
  for (BenchRow& row : rows) {
    for (eval::Conditions& c : row.result.conditions) by_threads[row.setting.n_threads].push_back(&c);
  }
  for (const auto& [n_threads, repetitions] : by_threads) eval::taint_frequency_drops(repetitions);
}

Status run_bench(Options& o) {
  const auto all_tests = tests(o);
  if (all_tests.empty()) return fail(ErrorCode::kInvalid, "nothing to measure: give -p, -n or -pg a number above 0");
  size_t n_ctx = eval::kHashPositions;
  for (const eval::BenchTest& test : all_tests) n_ctx = std::max(n_ctx, test.positions());
  if (o.n_ctx != 0) n_ctx = o.n_ctx;

  const auto all_settings = settings(o);
  for (const BenchSetting& setting : all_settings) {
    SHOEHORN_TRY([[maybe_unused]] const auto options, session_options(setting, o.cache_rotation, n_ctx));
  }
  if (const auto file = io::GgufFile::open(o.model_path); !file) return tl::unexpected<Error>(file.error());
  const auto progress = make_progress();
  SHOEHORN_RETURN_IF_ERROR(o.power.start(*progress));  // with the machine idle: what may be wrong was looked at before
  SHOEHORN_TRY(const auto first, session_options(all_settings.front(), o.cache_rotation, eval::kHashPositions));
  SHOEHORN_TRY(const auto loaded, eval::load_timed(o.model_path, first, o.cold_start, o.no_mmap ? FileMode::kCopy : FileMode::kMap));
  if (o.cold_start && loaded.time.state() != std::string_view("cold")) {
    remark(
        fmt::format("{}: the system kept {:.0f} % of the file in its page cache (another program uses it, or it is on "
                    "a file system in memory)",
                    o.model_path, 100 * loaded.time.cached));
  }
  const auto& model = loaded.model;
  BenchReport report;
  report.model_path = o.model_path;
  report.load = loaded.time;
  report.peak_gbs = o.peak_gbs;
  const Options defaults;
  report.show_batch = o.n_batch != defaults.n_batch;
  report.show_ubatch = o.n_ubatch != defaults.n_ubatch;
  report.show_type_k = o.type_k != defaults.type_k;
  report.show_type_v = o.type_v != defaults.type_v;
  describe_model(*model, report);
  for (const BenchSetting& setting : all_settings) {
    SHOEHORN_TRY(const auto options, session_options(setting, o.cache_rotation, n_ctx));
    SHOEHORN_TRY(auto session, engine::Session::create(model, options));
    eval::ConditionMonitor monitor(eval::MachineProbe({}, setting.n_threads));
    SHOEHORN_TRY(auto results, eval::bench(session, all_tests,
                                           {.repetitions = o.repetitions,
                                            .warm_up = !o.no_warm_up,
                                            .profile = o.profile,
                                            .monitor = &monitor,
                                            .power = o.power.recorder()},
                                           *progress));
    SHOEHORN_TRY(const uint64_t hash, eval::logits_hash(session));
    for (auto& result : results) report.rows.push_back({setting, std::move(result), hash});
  }
  taint_frequency_drops(report.rows);
  // Last, because its buffer would count as peak memory.
  std::map<int, eval::Ceilings> ceilings;
  for (BenchRow& row : report.rows) {
    const int n_threads = row.setting.n_threads;
    if (!ceilings.contains(n_threads)) {
      SHOEHORN_TRY(ceilings[n_threads], eval::measure_ceilings(model->kernels(), n_threads));
    }
    row.ceilings = ceilings[n_threads];
  }
  SHOEHORN_RETURN_IF_ERROR(o.power.finish(*model, report));

  if (o.output == "json") {
    print_bench_json(report);
  } else if (o.output == "csv") {
    print_bench_csv(report);
  } else {
    print_bench_table(report);
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
  add_model_option(app, "-m,--model", o->model_path, "GGUF file")->required();
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
  add_cache_rotation_option(app, o->cache_rotation);
  app.add_option("-c,--ctx-size", o->n_ctx, "Context in tokens (default: what the longest test takes)")
      ->check(positive);
  app.add_flag("--no-warmup", o->no_warm_up, "Time the first run of a test too");
  app.add_flag("--profile", o->profile,
               "Show where the time goes, per kind of operation (one more repetition of each test)");
  app.add_flag("--cold-start", o->cold_start, "Drop the file from the page cache before it is loaded");
  app.add_flag("--no-mmap", o->no_mmap, "Read the whole model into memory, on huge pages, instead of mapping the file");
  app.add_option("--peak-gbs", o->peak_gbs, "The memory's peak read bandwidth in GB/s, for mbu against it too")
      ->check(CLI::Range(0.0, 1e6));
  o->power.add_to(app);
  app.add_option("-o,--output", o->output, "md, csv, or json: llama-bench's array of tests")
      ->check(CLI::IsMember({"md", "csv", "json"}))
      ->capture_default_str();
  app.footer(
      "Options that show a list take several values, with commas between: every combination is measured.\n\n"
      "Examples:\n"
      "  shoehorn bench -m model.gguf                         512 tokens of prefill, 128 of decode\n"
      "  shoehorn bench -m model.gguf -p 0 -n 0 -pg 512,128   time to the first and last token of an answer of 128\n"
      "  shoehorn bench -m model.gguf -p 0 -n 64 -d 0,4096    decode on an empty and on a long context\n"
      "  shoehorn bench -m model.gguf -n 32 --profile         where the time goes\n"
      "  shoehorn bench -m model.gguf --power-csv um34c.csv --idle-seconds 180 --battery-wh 37\n"
      "  shoehorn bench -m model.gguf -t 1,2,4 -o json | jq -r '.[] | \"\\(.n_threads) \\(.avg_ts)\"'\n\n"
      "pp and tg are llama-bench's: tokens per second of reading a prompt, of generating one token at a time.\n"
      "ttft, ttlt: milliseconds from the start to the first and to the last token's logits.\n"
      "mbu, model bandwidth utilization, is the share of the measured read bandwidth (with --peak-gbs also of that "
      "one) that\n"
      "the bytes of a repetition take in its time. The bytes are the least that must be read: all weights once per "
      "forward\n"
      "pass, of the token embedding only the rows in use, the output matrix in passes whose logits are wanted, and the "
      "keys\n"
      "and values of all positions so far. kv is the size of the keys and values at the end of a test.\n"
      "A repetition is tainted, and counted so, when the processor throttled or its frequency fell, when other "
      "programs used\n"
      "more than 5 % of the CPUs, or tasks had to wait for one. docs/benchmarks.md has all definitions.\n"
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
