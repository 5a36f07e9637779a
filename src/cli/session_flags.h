// The options of commands that run a model.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/cpu_budget.h"
#include "base/status.h"
#include "engine/session.h"

namespace shoehorn::cli {

/// The type that -ctk or -ctv names.
Expected<quant::Type> parse_cache_type(const std::string& name);

/// --cache-rotation
void add_cache_rotation_option(CLI::App& app, engine::CacheRotation& rotation);

struct SessionFlags {
  std::string model_path;
  int64_t n_ctx = 0;
  int n_threads = 0;
  std::string cpu_mask, cpu_range;
  bool cpu_strict = false;
  bool no_mmap = false, mlock = false;
  int64_t n_batch = 512;
  std::string cache_type_k = "f16", cache_type_v = "f16";
  engine::CacheRotation cache_rotation = engine::CacheRotation::kWhereQuantized;
  int n_gpu_layers = 0;

  /// -m, -c, -t, -C, -Cr, -b, -ctk, -ctv, --cache-rotation, --mlock, --no-mmap, -ngl
  void add_to(CLI::App& app, int64_t default_ctx, const std::string& ctx_help);
  /// Opens the model and a session on it.
  Expected<engine::Session> open() const;
  /// A session with the same options on another model.
  Expected<engine::Session> open(const std::string& path) const;

  // What open() does in two steps, for who runs several sessions on a model.
  Expected<engine::SessionOptions> session_options() const;
  Expected<std::shared_ptr<const engine::Model>> open_model(const std::string& path) const;

 private:
  Expected<ThreadOptions> threads() const;
};

}  // namespace shoehorn::cli
