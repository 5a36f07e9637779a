#include "compress/estimate.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/disk.h"
#include "base/memory.h"

namespace shoehorn::compress {
namespace {
namespace fs = std::filesystem;

/// Multiply-adds of a product that take as long as an attention score's way through mask and softmax.
constexpr double kPassOverScore = 900;

std::string format_time(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} seconds", std::max(1.0, seconds));
  if (seconds < 5400) return fmt::format("{:.0f} minutes", seconds / 60);
  return seconds < 172800 ? fmt::format("{:.1f} hours", seconds / 3600) : fmt::format("{:.1f} days", seconds / 86400);
}

}  // namespace

Json Estimate::json(const Compute& compute) const {
  Json shapes = Json::array();
  for (const models::LayerShape& layer : layers) shapes.push_back({layer.n_head, layer.n_head_kv, layer.n_ff});
  return {{"memory_bytes", memory_bytes},
          {"output_bytes", output_bytes},
          {"working_bytes", working_bytes},
          {"seconds", multiply_adds / measure_multiply_adds(compute)},
          {"layers", shapes}};
}

double block_multiply_adds(const BlockLoader& loader, int64_t seq_len) {
  double n = 0;
  for (const models::LayerShape& layer : loader.hparams().layers) {
    n += static_cast<double>(seq_len) * layer.n_head * (2.0 * loader.hparams().head_dim + kPassOverScore);
  }
  for (const models::TensorSpec& spec : models::tensor_specs(loader.architecture(), loader.hparams())) {
    if (spec.layer < 0 || spec.shape.size() != 2) continue;
    n += static_cast<double>(spec.shape[0]) * static_cast<double>(spec.shape[1]) * models::share_of_tokens(*spec.rule, loader.hparams());
  }
  return n;
}

double head_multiply_adds(const BlockLoader& loader) {
  return static_cast<double>(loader.hparams().n_vocab) * static_cast<double>(loader.hparams().n_embd);
}

double measure_multiply_adds(const Compute& compute) {
  using Clock = std::chrono::steady_clock;
  at::NoGradGuard no_gradient;
  constexpr int64_t kRows = 256, kSide = 1024;
  const at::Tensor x = at::ones({kRows, kSide}, compute.options()), w = at::ones({kSide, kSide}, compute.options());
  at::linear(x, w);
  // The fastest of many: what else runs on the machine slows some of them.
  double best = 1;
  for (const auto start = Clock::now(); Clock::now() - start < std::chrono::milliseconds(100);) {
    const auto begun = Clock::now();
    at::linear(x, w)[0][0].item<float>();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begun).count());
  }
  return static_cast<double>(kRows * kSide * kSide) / best;
}

Expected<std::string> describe(const Estimate& estimate, const Compute& compute, const std::string& directory) {
  std::error_code error;
  const fs::path parent = nearest_existing(fs::absolute(directory, error).parent_path());
  const fs::space_info space = fs::space(parent, error);
  if (!error && space.available < estimate.disk_bytes()) {
    return fail(ErrorCode::kTooLarge, "{} takes about {} of disk, {} has {} free", directory, format_bytes(estimate.disk_bytes()), parent.string(),
                format_bytes(space.available));
  }
  return fmt::format("about {} of memory, {} of disk and {}", format_bytes(estimate.memory_bytes), format_bytes(estimate.disk_bytes()),
                     format_time(estimate.multiply_adds / measure_multiply_adds(compute)));
}

}  // namespace shoehorn::compress
