#include "outliers.h"

#include <cmath>

#include "beside.h"
#include "convert/opened_checkpoint.h"
#include "io/safetensors.h"
#include "variates.h"

namespace shoehorn::tools {
namespace {
using models::Role;

/// What the rows and the columns of one tensor are multiplied by; empty: nothing.
struct Factors {
  std::vector<float> rows, columns;
};

class FactorSource {
 public:
  FactorSource(double sigma, uint64_t seed) : sigma_(static_cast<float>(sigma)), seed_(seed), quantiles_(normal_quantiles()) {}

  Factors of(const models::TensorSpec& spec, const models::Hparams& h) const {
    if (spec.layer < 0) return {};
    const models::LayerShape& shape = h.layers[static_cast<size_t>(spec.layer)];
    switch (spec.rule->role) {
      case Role::kFfnUp: return {draw(spec.layer, kUpDown, shape.n_ff), {}};
      case Role::kFfnUpBias: return {{}, draw(spec.layer, kUpDown, shape.n_ff)};
      case Role::kFfnDown: return {{}, inverse(draw(spec.layer, kUpDown, shape.n_ff))};
      case Role::kAttnV: return {draw(spec.layer, kValueOutput, uint64_t{shape.n_head_kv} * h.head_dim), {}};
      case Role::kAttnVBias: return {{}, draw(spec.layer, kValueOutput, uint64_t{shape.n_head_kv} * h.head_dim)};
      case Role::kAttnOutput: {
        const std::vector<float> of_values = draw(spec.layer, kValueOutput, uint64_t{shape.n_head_kv} * h.head_dim);
        std::vector<float> columns(uint64_t{shape.n_head} * h.head_dim);
        // Consecutive query heads read one KV head.
        const uint64_t group = uint64_t{shape.n_head} / shape.n_head_kv;
        for (uint64_t c = 0; c < columns.size(); ++c) columns[c] = of_values[c / h.head_dim / group * h.head_dim + c % h.head_dim];
        return {{}, inverse(std::move(columns))};
      }
      default: return {};
    }
  }

 private:
  enum Pair : uint64_t { kValueOutput, kUpDown };

  std::vector<float> draw(int layer, Pair pair, uint64_t n) const {
    const uint64_t key = mix(mix(seed_) + static_cast<uint64_t>(layer) * 2 + pair);
    std::vector<float> out(n);
    for (uint64_t i = 0; i < n; ++i) out[i] = std::exp(sigma_ * quantiles_[mix(key + i * 0x9e3779b97f4a7c15ull) & 0xffff]);
    return out;
  }

  static std::vector<float> inverse(std::vector<float> factors) {
    for (float& f : factors) f = 1 / f;
    return factors;
  }

  float sigma_;
  uint64_t seed_;
  std::vector<float> quantiles_;
};

/// `rows` are n rows of n_cols from row `first` on.
void scale(const Factors& factors, uint64_t first, uint64_t n, uint64_t n_cols, float* rows) {
  for (uint64_t r = 0; r < n; ++r) {
    const float row = factors.rows.empty() ? 1.0f : factors.rows[first + r];
    for (uint64_t c = 0; c < n_cols; ++c) rows[r * n_cols + c] *= factors.columns.empty() ? row : row * factors.columns[c];
  }
}

}  // namespace

Expected<uint64_t> write_outliers(const OutlierOptions& options) {
  NoProgress progress;
  SHOEHORN_TRY(auto checkpoint, convert::open_checkpoint(options.from, progress));
  const models::Hparams& h = checkpoint.config.hparams;
  SHOEHORN_RETURN_IF_ERROR(make_empty_directory(options.to));

  io::SafetensorsWriter writer;
  const auto dtype_of = [&](const io::CheckpointTensor& tensor) {
    if (options.dtype) return *options.dtype;
    return tensor.dtype == io::DType::F16 || tensor.dtype == io::DType::BF16 ? tensor.dtype : io::DType::F32;
  };
  const auto specs = models::tensor_specs(*checkpoint.config.architecture, h);
  for (const models::FileTensor& tensor : models::hf_tensors(specs)) {
    const io::CheckpointTensor& stored = *checkpoint.weights->find(tensor.name);
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(stored.name, dtype_of(stored), stored.shape));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin(options.to, options.max_shard_bytes));
  const FactorSource source(options.sigma, options.seed);
  std::vector<float> rows;
  std::vector<std::byte> encoded;
  for (const auto& [spec, tensor] : checkpoint.tensors) {
    const io::DType dtype = dtype_of(tensor);
    const Factors factors = source.of(spec, h);
    const uint64_t n_cols = spec.shape[0], n_rows = spec.shape.size() > 1 ? spec.shape[1] : 1;
    const uint64_t piece = std::max<uint64_t>(1, (uint64_t{1} << 20) / n_cols);
    for (uint64_t first = 0; first < n_rows; first += piece) {
      const uint64_t n = std::min(piece, n_rows - first);
      rows.resize(n * n_cols);
      encoded.resize(rows.size() * io::dtype_info(dtype).bytes);
      io::read_floats(tensor, first * n_cols, rows.size(), rows.data());
      scale(factors, first, n, n_cols, rows.data());
      io::encode_floats(dtype, rows.data(), rows.size(), encoded.data());
      SHOEHORN_RETURN_IF_ERROR(writer.append(encoded));
    }
  }
  SHOEHORN_RETURN_IF_ERROR(copy_other_files(options.from, options.to));
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  return models::count_parameters(*checkpoint.config.architecture, h);
}

}  // namespace shoehorn::tools
