// The options of commands that run a model.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/status.h"
#include "engine/session.h"

namespace shoehorn::cli {

/// The type that -ctk or -ctv names.
Expected<quant::Type> parse_cache_type(const std::string& name);

struct SessionFlags {
  std::string model_path;
  int64_t n_ctx = 0;
  int n_threads = 0;
  int64_t n_batch = 512;
  std::string cache_type_k = "f16", cache_type_v = "f16";
  int n_gpu_layers = 0;

  /// -m, -c, -t, -b, -ctk, -ctv, -ngl
  void add_to(CLI::App& app, int64_t default_ctx, const std::string& ctx_help);
  /// Opens the model and a session on it.
  Expected<engine::Session> open() const;
  /// A session with the same options on another model.
  Expected<engine::Session> open(const std::string& path) const;
};

}  // namespace shoehorn::cli
