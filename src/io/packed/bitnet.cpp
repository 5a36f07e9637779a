// BitNet b1.58 (Ma et al. 2024, arXiv:2402.17764) as transformers packs it (integrations/bitnet.py): "weight" uint8 [n_out / 4, n_in]; the bits
// 2i and 2i + 1 of row r are the weight of row r + i n_out / 4, plus one; weight_scale [1]. The older linear class "bitlinear" divides by
// the scale, "autobitlinear" multiplies.
#include <cmath>

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

Expected<std::vector<CheckpointTensor>> unpack(const Json& quantization, StoredSet& tensors) {
  const auto linear_class = json_or<std::string>(quantization, "linear_class", "bitlinear");
  if (linear_class != "bitlinear" && linear_class != "autobitlinear")
    return fail(ErrorCode::kUnsupported, "quantization: linear_class \"{}\"; bitlinear and autobitlinear are known", printable(linear_class));
  std::vector<CheckpointTensor> out;
  for (const std::string& module : tensors.modules(".weight_scale")) {
    SHOEHORN_TRY(StoredTensor weight, tensors.take(module + ".weight", {DType::U8}, 2));
    SHOEHORN_TRY(const StoredTensor stated, tensors.take(module + ".weight_scale", {DType::F32, DType::F16, DType::BF16}, 1));
    const uint64_t n_rows = weight.shape[0] * 4, n_cols = weight.shape[1];
    if (stated.shape[0] != 1 || n_rows == 0 || n_cols == 0)
      return fail(ErrorCode::kInvalid, "{}: {} scales for a matrix [{}, {}]", printable(module), stated.shape[0], n_rows, n_cols);
    float scale;
    decode_floats(stated.dtype, stated.data.data(), 1, &scale);
    if (linear_class == "bitlinear") scale = 1 / scale;
    if (!std::isfinite(scale)) return fail(ErrorCode::kInvalid, "{} is no finite scale", printable(stated.name));
    out.push_back(packed_tensor(module, DType::BF16, std::make_shared<TernaryMatrix>(n_rows, n_cols, scale, std::vector<StoredTensor>{std::move(weight)})));
  }
  return out;
}

}  // namespace

extern const Packing bitnet_packing;
const Packing bitnet_packing{"bitnet", unpack};

}  // namespace shoehorn::io
