// BitNet b1.58 (Ma et al. 2024, arXiv:2402.17764) as transformers packs it (integrations/bitnet.py): "weight" uint8 [n_out / 4, n_in]; the bits
// 2i and 2i + 1 of row r are the weight of row r + i n_out / 4, plus one; weight_scale [1]. The older linear class "bitlinear" divides by
// the scale, "autobitlinear" multiplies. Where the configuration says that this is done online, weights are stored as they are trained:
// s round(w / s), cut off at +-s, with s the mean of their sizes.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "io/packed.h"

namespace shoehorn::io {
namespace {

class TernaryMatrix : public PackedMatrix {
 public:
  TernaryMatrix(uint64_t n_rows, uint64_t n_cols, float scale, std::vector<StoredTensor> parts)
      : PackedMatrix(n_rows, n_cols, std::move(parts)), scale_(scale) {}

  void read(uint64_t first, uint64_t n, float* out) const override {
    const auto* bytes = reinterpret_cast<const uint8_t*>(parts()[0].data.data());
    const uint64_t quarter = n_rows() / 4;
    for (uint64_t r = first; r < first + n; ++r) {
      const uint8_t* row = bytes + r % quarter * n_cols();
      const auto shift = static_cast<int>(2 * (r / quarter));
      for (uint64_t c = 0; c < n_cols(); ++c) *out++ = static_cast<float>((row[c] >> shift & 3) - 1) * scale_;
    }
  }

 private:
  float scale_;
};

/// What weights in floating point are rounded to whenever they are used.
class RoundedMatrix : public PackedMatrix {
 public:
  using PackedMatrix::PackedMatrix;

  void read(uint64_t first, uint64_t n, float* out) const override {
    std::call_once(measured_, [&] { measure(); });
    read_stored(first, n, out);
    for (uint64_t i = 0; i < n * n_cols(); ++i) out[i] = std::clamp(std::nearbyint(out[i] * inverse_), -1.0f, 1.0f) / inverse_;
  }

 private:
  void read_stored(uint64_t first, uint64_t n, float* out) const {
    const StoredTensor& weight = parts()[0];
    decode_floats(weight.dtype, weight.data.data() + first * n_cols() * dtype_info(weight.dtype).bytes, n * n_cols(), out);
  }
  void measure() const {
    std::vector<float> row(n_cols());
    double sum = 0;
    for (uint64_t r = 0; r < n_rows(); ++r) {
      read_stored(r, 1, row.data());
      for (const float w : row) sum += static_cast<double>(std::abs(w));
    }
    constexpr float kLeast = 1e-5f;
    inverse_ = 1 / std::max(kLeast, static_cast<float>(sum / static_cast<double>(n_rows() * n_cols())));
  }

  mutable std::once_flag measured_;
  mutable float inverse_ = 0;
};

Expected<std::vector<CheckpointTensor>> unpack_online(StoredSet& tensors) {
  std::vector<CheckpointTensor> out;
  for (const std::string& module : tensors.modules("_proj.weight")) {
    SHOEHORN_TRY(StoredTensor weight, tensors.take(module + "_proj.weight", kScaleTypes, 2));
    const uint64_t n_rows = weight.shape[0], n_cols = weight.shape[1];
    if (n_rows == 0 || n_cols == 0) return fail(ErrorCode::kInvalid, "{} is empty", printable(weight.name));
    const DType dtype = weight.dtype;
    out.push_back(packed_tensor(module + "_proj", dtype, std::make_shared<RoundedMatrix>(n_rows, n_cols, std::vector<StoredTensor>{std::move(weight)})));
  }
  return out;
}

Expected<std::vector<CheckpointTensor>> unpack(const Json& quantization, StoredSet& tensors) {
  if (json_or<std::string>(quantization, "quantization_mode", "offline") == "online") return unpack_online(tensors);
  const auto linear_class = json_or<std::string>(quantization, "linear_class", "bitlinear");
  if (linear_class != "bitlinear" && linear_class != "autobitlinear")
    return fail(ErrorCode::kUnsupported, "quantization: linear_class \"{}\"; bitlinear and autobitlinear are known", printable(linear_class));
  std::vector<CheckpointTensor> out;
  for (const std::string& module : tensors.modules(".weight_scale")) {
    SHOEHORN_TRY(StoredTensor weight, tensors.take(module + ".weight", {DType::U8}, 2));
    SHOEHORN_TRY(const StoredTensor stated, tensors.take(module + ".weight_scale", kScaleTypes, 1));
    const uint64_t n_rows = weight.shape[0] * 4, n_cols = weight.shape[1];
    if (stated.shape[0] != 1 || n_rows == 0 || n_cols == 0)
      return fail(ErrorCode::kInvalid, "{}: {} scales for a matrix [{}, {}]", printable(module), stated.shape[0], n_rows, n_cols);
    float scale = float_at(stated, 0);
    if (linear_class == "bitlinear") scale = 1 / scale;
    if (!std::isfinite(scale)) return fail(ErrorCode::kInvalid, "{} is no finite scale", printable(stated.name));
    out.push_back(packed_tensor(module, DType::BF16, std::make_shared<TernaryMatrix>(n_rows, n_cols, scale, std::vector<StoredTensor>{std::move(weight)})));
  }
  return out;
}

}  // namespace

extern const Packing bitnet_packing;
const Packing bitnet_packing{"bitnet", unpack, "TQ1_0 and TQ2_0 have the same but for the scale, which they round to a half"};

}  // namespace shoehorn::io
