// MLX (ml-explore.github.io/mlx, nn.quantize): "weight" uint32 [n_out, n_in * bits / 32], a stream of codes along each row, lowest bits
// first; "scales" and "biases" [n_out, n_in / group_size]: w = scale * code + bias.
#include <cstring>

#include "io/packed.h"

namespace shoehorn::io {
namespace {

class MlxMatrix : public PackedMatrix {
 public:
  MlxMatrix(uint64_t n_rows, uint64_t n_cols, int bits, uint64_t group_size, std::vector<StoredTensor> parts)
      : PackedMatrix(n_rows, n_cols, std::move(parts)), bits_(bits), group_size_(group_size) {}

  void read(uint64_t first, uint64_t n, float* out) const override {
    const uint64_t n_groups = n_cols() / group_size_, row_bytes = parts()[0].shape[1] * 4;
    std::vector<uint8_t> codes(n_cols());
    std::vector<float> scales(n_groups), biases(n_groups);
    const auto read_row = [&](const StoredTensor& tensor, uint64_t row, std::vector<float>& values) {
      decode_floats(tensor.dtype, tensor.data.data() + row * n_groups * dtype_info(tensor.dtype).bytes, n_groups, values.data());
    };
    for (uint64_t r = first; r < first + n; ++r) {
      read_bits(parts()[0].data.data() + r * row_bytes, 1, bits_, n_cols(), codes.data());
      read_row(parts()[1], r, scales);
      read_row(parts()[2], r, biases);
      for (uint64_t c = 0; c < n_cols(); ++c) *out++ = scales[c / group_size_] * static_cast<float>(codes[c]) + biases[c / group_size_];
    }
  }

 private:
  int bits_;
  uint64_t group_size_;
};

Expected<std::vector<CheckpointTensor>> unpack(const Json& quantization, StoredSet& tensors) {
  SHOEHORN_TRY(const int64_t bits, required_number(quantization, "bits"));
  SHOEHORN_TRY(const int64_t group_size, required_number(quantization, "group_size"));
  if (bits != 2 && bits != 3 && bits != 4 && bits != 6 && bits != 8) return fail(ErrorCode::kUnsupported, "quantization: bits is {}; MLX has 2, 3, 4, 6 and 8", bits);
  if (group_size < 1 || group_size > 1 << 20) return fail(ErrorCode::kInvalid, "quantization: group_size is {}", group_size);
  if (const auto mode = json_or<std::string>(quantization, "mode", "affine"); mode != "affine")
    return fail(ErrorCode::kUnsupported, "quantization: mode \"{}\"; MLX' affine one can be read", printable(mode));
  std::vector<CheckpointTensor> out;
  for (const std::string& module : tensors.modules(".scales")) {
    SHOEHORN_TRY(StoredTensor weight, tensors.take(module + ".weight", {DType::U32}, 2));
    SHOEHORN_TRY(StoredTensor scales, tensors.take(module + ".scales", kScaleTypes, 2));
    SHOEHORN_TRY(StoredTensor biases, tensors.take(module + ".biases", kScaleTypes, 2));
    const auto size = static_cast<uint64_t>(group_size);
    const uint64_t n_rows = weight.shape[0], n_cols = scales.shape[1] * size;
    // A layer may have bits of its own in its configuration; its width then says another number.
    const bool fits = n_rows > 0 && n_cols > 0 && n_cols < uint64_t{1} << 32 && scales.shape[0] == n_rows && biases.shape == scales.shape &&
                      weight.shape[1] * 32 == n_cols * static_cast<uint64_t>(bits);
    if (!fits) {
      return fail(ErrorCode::kInvalid, "{}: weight [{}], scales [{}] and biases [{}] do not fit {} bits in groups of {}", printable(module), fmt::join(weight.shape, ", "),
                  fmt::join(scales.shape, ", "), fmt::join(biases.shape, ", "), bits, size);
    }
    const DType dtype = scales.dtype;
    out.push_back(packed_tensor(module, dtype, std::make_shared<MlxMatrix>(n_rows, n_cols, static_cast<int>(bits), size,
                                                                          std::vector<StoredTensor>{std::move(weight), std::move(scales), std::move(biases)})));
  }
  return out;
}

}  // namespace

extern const Packing mlx_packing;
const Packing mlx_packing{"mlx", unpack};

}  // namespace shoehorn::io
