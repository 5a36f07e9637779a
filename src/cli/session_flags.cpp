#include "cli/session_flags.h"

#include <map>

#include "cli/command.h"
#include "cli/model_option.h"
#include "cli/open_model.h"

namespace shoehorn::cli {
namespace {

/// CLI11's form of a parser: the error, or nothing.
template <class Parser>
auto checked_by(Parser parser) {
  return [parser](const std::string& text) {
    const auto parsed = parser(text);
    return parsed ? std::string() : parsed.error().message;
  };
}

}  // namespace

Expected<quant::Type> parse_cache_type(const std::string& name) {
  const quant::Format* format = quant::find_format(name);
  if (format == nullptr) return fail(ErrorCode::kInvalid, "unknown cache type \"{}\"; f32, f16, bf16 and q8_0 are common", name);
  return format->type;
}

void add_cache_rotation_option(CLI::App& app, engine::CacheRotation& rotation) {
  using engine::CacheRotation;
  const std::map<std::string, CacheRotation> names = {
      {"auto", CacheRotation::kWhereQuantized}, {"on", CacheRotation::kAlways}, {"off", CacheRotation::kNever}};
  app.add_option_function<std::string>(
         "--cache-rotation", [&rotation, names](const std::string& name) { rotation = names.at(name); },
         "Hadamard transforms of keys and values before they are rounded to their type: on, off, or auto: where it is a quantized one")
      ->check(CLI::IsMember(names))
      ->default_str("auto");
}

void SessionFlags::add_to(CLI::App& app, int64_t default_ctx, const std::string& ctx_help) {
  n_ctx = default_ctx;
  add_model_option(app, "-m,--model", model_path, "GGUF file, or a checkpoint's directory")->required();
  app.add_option("-c,--ctx-size", n_ctx, ctx_help)->check(CLI::Range(int64_t{0}, int64_t{1} << 24));
  app.add_option("-t,--threads", n_threads, "Threads (default: the CPUs this process may use)")->check(CLI::Range(1, 1024));
  app.add_option("-C,--cpu-mask", cpu_mask, "CPUs that the threads stay on, hexadecimal")->check(checked_by(parse_cpu_mask));
  app.add_option("--cpu-range", cpu_range, "CPUs that the threads stay on, LO-HI (also -Cr)")->check(checked_by(parse_cpu_range));
  app.add_option("--cpu-strict", cpu_strict, "1: a CPU for each thread, 0: each on any of them")->capture_default_str();
  app.add_option("-b,--batch-size", n_batch, "Tokens per forward pass")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--cache-type-k", cache_type_k, "KV cache type of keys: f32, f16, bf16, q8_0 ... (also -ctk)")->capture_default_str();
  app.add_option("--cache-type-v", cache_type_v, "KV cache type of values (also -ctv)")->capture_default_str();
  add_cache_rotation_option(app, cache_rotation);
  app.add_flag("--mlock", mlock, "Keep the model in memory");
  app.add_flag("--no-mmap", no_mmap, "Read the whole model into memory instead of mapping the file");
  app.add_option("--n-gpu-layers", n_gpu_layers, "Accepted for llama.cpp's sake; everything runs on the CPU (also -ngl)");
}

Expected<ThreadOptions> SessionFlags::threads() const {
  ThreadOptions options = {.n = n_threads, .cpus = {}, .strict = cpu_strict};
  if (!cpu_mask.empty()) {
    SHOEHORN_TRY(options.cpus, parse_cpu_mask(cpu_mask));
  }
  if (!cpu_range.empty()) {
    SHOEHORN_TRY(const CpuSet range, parse_cpu_range(cpu_range));
    options.cpus = unite(options.cpus, range);
  }
  return plan_threads(std::move(options), cpu_budget());
}

Expected<engine::Session> SessionFlags::open() const { return open(model_path); }

Expected<engine::Session> SessionFlags::open(const std::string& path) const {
  SHOEHORN_TRY(const auto options, session_options());
  SHOEHORN_TRY(auto model, open_model(path));
  return engine::Session::create(std::move(model), options);
}

Expected<engine::SessionOptions> SessionFlags::session_options() const {
  if (n_gpu_layers > 0) remark("-ngl is ignored: this build runs on the CPU only");
  engine::SessionOptions options;
  options.n_ctx = static_cast<size_t>(n_ctx);
  options.n_batch = static_cast<size_t>(n_batch);
  SHOEHORN_TRY(auto planned, threads());
  options.n_threads = planned.n;
  options.affinity = {.cpus = std::move(planned.cpus), .strict = planned.strict};
  SHOEHORN_TRY(options.key_type, parse_cache_type(cache_type_k));
  SHOEHORN_TRY(options.value_type, parse_cache_type(cache_type_v));
  options.cache_rotation = cache_rotation;
  return options;
}

Expected<std::shared_ptr<const engine::Model>> SessionFlags::open_model(const std::string& path) const {
  SHOEHORN_TRY(auto model, cli::open_model(path, no_mmap ? FileMode::kCopy : FileMode::kMap));
  if (mlock) {
    if (const Status locked = model->file().lock(); !locked) remark(locked.error().message + "; going on without");
  }
  return model;
}

}  // namespace shoehorn::cli
