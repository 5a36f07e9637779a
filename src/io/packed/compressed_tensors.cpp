// compressed-tensors, what llm-compressor writes (github.com/vllm-project/compressed-tensors, compressors/quantized_compressors). Packed:
// weight_packed int32 [n_out, words], 32 / bits codes a word, lowest bits first, each plus 2^(bits - 1); weight_scale [n_out, n_groups];
// weight_shape [2]; weight_zero_point packed the same way down its columns; weight_g_idx [n_in]. Not packed: "weight" int8 or float8 with
// weight_scale [n_out, 1] or [1].
#include <algorithm>
#include <cstring>

#include "io/packed.h"

namespace shoehorn::io {
namespace {

class PackedIntMatrix : public GroupedMatrix {
 public:
  /// parts: codes, scales, and zeros where there are any.
  PackedIntMatrix(uint64_t n_rows, uint64_t n_cols, int bits, std::vector<StoredTensor> parts) : GroupedMatrix(n_rows, n_cols, std::move(parts)), bits_(bits) {
    scales_are_f16_ = this->parts()[1].dtype == DType::F16;
  }
  using GroupedMatrix::set_groups;

 protected:
  void codes(uint64_t row, uint8_t* out) const override {
    const uint64_t per_word = 32 / static_cast<uint64_t>(bits_);
    const std::byte* words = parts()[0].data.data() + row * parts()[0].shape[1] * 4;
    for (uint64_t c = 0; c < n_cols(); c += per_word) read_bits(words + c / per_word * 4, 1, bits_, std::min(per_word, n_cols() - c), out + c);
  }
  void scales(uint64_t row, float* out) const override {
    const StoredTensor& scale = parts()[1];
    decode_floats(scale.dtype, scale.data.data() + row * n_groups() * dtype_info(scale.dtype).bytes, n_groups(), out);
  }
  void zeros(uint64_t row, float* out) const override {
    const int half = 1 << (bits_ - 1), per_word = 32 / bits_;
    for (uint64_t g = 0; g < n_groups(); ++g) {
      out[g] = static_cast<float>(half);
      if (parts().size() < 3) continue;
      uint32_t word;
      std::memcpy(&word, parts()[2].data.data() + (row / static_cast<uint64_t>(per_word) * n_groups() + g) * 4, sizeof word);
      out[g] = static_cast<float>(word >> (static_cast<int>(row % static_cast<uint64_t>(per_word)) * bits_) & ((1u << bits_) - 1));
    }
  }
  bool is_symmetric_nibbles() const override { return bits_ == 4 && parts().size() < 3; }

 private:
  int bits_;
};

/// int8 or float8, a scale for each row or for all.
class ScaledMatrix : public PackedMatrix {
 public:
  using PackedMatrix::PackedMatrix;
  void read(uint64_t first, uint64_t n, float* out) const override {
    const StoredTensor &weight = parts()[0], &scales = parts()[1];
    for (uint64_t r = first; r < first + n; ++r, out += n_cols()) {
      const float scale = float_at(scales, scales.shape[0] == 1 ? 0 : r);
      const float zero = parts().size() < 3 ? 0 : static_cast<float>(static_cast<int8_t>(parts()[2].data[parts()[2].data.size() == 1 ? 0 : r]));
      if (weight.dtype == DType::I8) {
        const auto* codes = reinterpret_cast<const int8_t*>(weight.data.data()) + r * n_cols();
        for (uint64_t c = 0; c < n_cols(); ++c) out[c] = (static_cast<float>(codes[c]) - zero) * scale;
      } else {
        decode_floats(weight.dtype, weight.data.data() + r * n_cols() * dtype_info(weight.dtype).bytes, n_cols(), out);
        std::for_each_n(out, n_cols(), [&](float& v) { v *= scale; });
      }
    }
  }
};

/// The widths that the configuration's groups have.
std::vector<int64_t> widths_of(const Json& quantization) {
  std::vector<int64_t> out;
  const Json groups = quantization.value("config_groups", Json::object());
  for (const auto& [name, group] : groups.items()) {
    const Json weights = group.is_object() ? group.value("weights", Json()) : Json();
    if (const auto bits = json_or<int64_t>(weights, "num_bits", 0); bits >= 2 && bits <= 8) out.push_back(bits);
  }
  return out;
}

Expected<CheckpointTensor> packed(const std::string& module, const std::vector<int64_t>& widths, StoredSet& tensors) {
  SHOEHORN_TRY(StoredTensor codes, tensors.take(module + ".weight_packed", {DType::I32}, 2));
  SHOEHORN_TRY(StoredTensor scales, tensors.take(module + ".weight_scale", kScaleTypes, 2));
  SHOEHORN_TRY(const StoredTensor shape, tensors.take(module + ".weight_shape", {DType::I64, DType::I32}, 1));
  if (shape.shape[0] != 2) return fail(ErrorCode::kInvalid, "{} has {} entries, expected 2", printable(shape.name), shape.shape[0]);
  uint64_t size[2] = {};
  const uint64_t item = dtype_info(shape.dtype).bytes;
  for (uint64_t i = 0; i < 2; ++i) std::memcpy(&size[i], shape.data.data() + i * item, item);
  const uint64_t n_rows = size[0], n_cols = size[1], n_groups = scales.shape[1];
  const auto words_of = [&](int64_t bits, uint64_t n) { return (n + static_cast<uint64_t>(32 / bits) - 1) / static_cast<uint64_t>(32 / bits); };
  const auto width = std::find_if(widths.begin(), widths.end(), [&](int64_t bits) { return n_cols < uint64_t{1} << 32 && words_of(bits, n_cols) == codes.shape[1]; });
  const bool fits = width != widths.end() && n_rows > 0 && n_cols > 0 && codes.shape[0] == n_rows && scales.shape[0] == n_rows && n_groups > 0 && n_groups <= n_cols && n_cols % n_groups == 0;
  if (!fits) {
    return fail(ErrorCode::kInvalid, "{}: weight_packed [{}] and weight_scale [{}] are no matrix [{}, {}] of {} bits", printable(module), fmt::join(codes.shape, ", "),
                fmt::join(scales.shape, ", "), n_rows, n_cols, fmt::join(widths, " or "));
  }
  const DType dtype = scales.dtype;
  std::vector<StoredTensor> parts = {std::move(codes), std::move(scales)};
  if (tensors.contains(module + ".weight_zero_point")) {
    SHOEHORN_TRY(StoredTensor zeros, tensors.take(module + ".weight_zero_point", {DType::I32}, 2));
    if (zeros.shape[0] != words_of(*width, n_rows) || zeros.shape[1] != n_groups)
      return fail(ErrorCode::kInvalid, "{} is [{}], expected [{}, {}]", printable(zeros.name), fmt::join(zeros.shape, ", "), words_of(*width, n_rows), n_groups);
    parts.push_back(std::move(zeros));
  }
  auto matrix = std::make_shared<PackedIntMatrix>(n_rows, n_cols, static_cast<int>(*width), std::move(parts));
  matrix->set_groups(n_cols / n_groups);
  if (tensors.contains(module + ".weight_g_idx")) {
    SHOEHORN_TRY(std::vector<uint32_t> of_column, take_groups(tensors, module + ".weight_g_idx", n_cols));
    // -1 everywhere: there is no order of its own.
    const bool none = std::all_of(of_column.begin(), of_column.end(), [](uint32_t g) { return g == UINT32_MAX; });
    if (!none) SHOEHORN_RETURN_IF_ERROR(matrix->set_groups(std::move(of_column), n_cols / n_groups, n_groups));
  }
  return packed_tensor(module, dtype, std::move(matrix));
}

Expected<CheckpointTensor> scaled(const std::string& module, StoredSet& tensors) {
  SHOEHORN_TRY(StoredTensor weight, tensors.take(module + ".weight", {DType::I8, DType::F8_E4M3, DType::F8_E5M2}, 2));
  auto two = tensors.take(module + ".weight_scale", kScaleTypes, 2);
  if (!two) two = tensors.take(module + ".weight_scale", kScaleTypes, 1);
  if (!two) return tl::unexpected<Error>(two.error());
  const uint64_t n_rows = weight.shape[0], n_cols = weight.shape[1];
  const bool one_column = two->shape.size() == 1 || two->shape[1] == 1;
  if (n_rows == 0 || n_cols == 0 || !one_column || (two->shape[0] != n_rows && two->shape[0] != 1))
    return fail(ErrorCode::kInvalid, "{} is [{}] for a matrix [{}, {}]; a scale for each row or for all can be read", printable(two->name), fmt::join(two->shape, ", "), n_rows, n_cols);
  const DType dtype = two->dtype;
  std::vector<StoredTensor> parts = {std::move(weight), std::move(*two)};
  if (const std::string name = module + ".weight_zero_point"; tensors.contains(name)) {
    auto zeros = tensors.take(name, {DType::I8}, 2);
    if (!zeros) zeros = tensors.take(name, {DType::I8}, 1);
    if (!zeros) return tl::unexpected<Error>(zeros.error());
    if (zeros->data.size() != 1 && zeros->data.size() != n_rows) return fail(ErrorCode::kInvalid, "{} has {} entries for {} rows", printable(name), zeros->data.size(), n_rows);
    parts.push_back(std::move(*zeros));
  }
  tensors.drop(module + ".input_scale");
  return packed_tensor(module, dtype, std::make_shared<ScaledMatrix>(n_rows, n_cols, std::move(parts)));
}

Expected<std::vector<CheckpointTensor>> unpack(const Json& quantization, StoredSet& tensors) {
  std::vector<CheckpointTensor> out;
  const auto widths = widths_of(quantization);
  for (const std::string& module : tensors.modules(".weight_packed")) {
    SHOEHORN_TRY(auto tensor, packed(module, widths, tensors));
    out.push_back(std::move(tensor));
  }
  for (const std::string& module : tensors.modules(".weight_scale")) {
    SHOEHORN_TRY(auto tensor, scaled(module, tensors));
    out.push_back(std::move(tensor));
  }
  return out;
}

}  // namespace

extern const Packing compressed_tensors_packing;
const Packing compressed_tensors_packing{"compressed-tensors", unpack};

}  // namespace shoehorn::io
