// GPTQ as AutoGPTQ and GPTQModel store it (github.com/ModelCloud/GPTQModel, nn_modules/qlinear): qweight int32 [n_in / 32 * bits, n_out], a
// stream of codes down each column; qzeros int32 [n_groups, n_out / 32 * bits], a stream along each row; scales F16 [n_groups, n_out]; g_idx
// int32 [n_in], the group of each input, in any order with act-order. Version 1 stores each zero less one.
#include <cstring>

#include "io/packed.h"

namespace shoehorn::io {
namespace {

class GptqMatrix : public GroupedMatrix {
 public:
  GptqMatrix(uint64_t n_rows, uint64_t n_cols, int bits, std::vector<StoredTensor> parts)
      : GroupedMatrix(n_rows, n_cols, std::move(parts)), bits_(bits), qweight_(this->parts()[0].data), qzeros_(this->parts()[1].data), scales_(this->parts()[2]) {
    scales_are_f16_ = scales_.dtype == DType::F16;
  }

  Status set_up(std::vector<uint32_t> group_of_column, int64_t group_size, bool symmetric, bool second_version) {
    const uint64_t n = scales_.shape[0];
    const uint64_t size = group_size > 0 ? static_cast<uint64_t>(group_size) : n_cols();
    if (group_of_column.empty()) {
      if ((n_cols() + size - 1) / size != n)
        return fail(ErrorCode::kInvalid, "{} has {} groups, group_size {} calls for {}", printable(scales_.name), n, group_size, (n_cols() + size - 1) / size);
      set_groups(size);
    } else {
      SHOEHORN_RETURN_IF_ERROR(set_groups(std::move(group_of_column), size, n));
    }
    const uint32_t half = 1u << (bits_ - 1), mask = (1u << bits_) - 1;
    bool all_half = true, all_below_half = true;
    std::vector<uint8_t> row(n_rows());
    for (uint64_t g = 0; g < n; ++g) {
      read_bits(qzeros_.data() + g * zero_row_bytes(), 1, bits_, n_rows(), row.data());
      for (const uint8_t zero : row) {
        all_half &= zero == half;
        all_below_half &= zero == half - 1;
      }
    }
    // Symmetric zeros are the middle, whatever version a file says it is of: some say 1 and are 2.
    if (symmetric && (all_half || all_below_half)) second_version = all_half;
    added_ = second_version ? 0 : 1;
    symmetric_nibbles_ = bits_ == 4 && (second_version ? all_half : all_below_half);
    mask_ = mask;
    return {};
  }

 protected:
  void codes(uint64_t row, uint8_t* out) const override { read_bits(qweight_.data() + row * 4, n_rows(), bits_, n_cols(), out); }
  void scales(uint64_t row, float* out) const override {
    for (uint64_t g = 0; g < n_groups(); ++g) out[g] = float_at(scales_, g * n_rows() + row);
  }
  void zeros(uint64_t row, float* out) const override {
    const uint64_t bit = row * static_cast<uint64_t>(bits_);
    for (uint64_t g = 0; g < n_groups(); ++g) {
      uint64_t words = 0;
      const uint64_t at = g * zero_row_bytes() + bit / 32 * 4;
      std::memcpy(&words, qzeros_.data() + at, std::min<uint64_t>(8, qzeros_.size() - at));
      out[g] = static_cast<float>(((words >> (bit % 32)) + added_) & mask_);
    }
  }
  bool is_symmetric_nibbles() const override { return symmetric_nibbles_; }

 private:
  uint64_t zero_row_bytes() const { return n_rows() / 32 * static_cast<uint64_t>(bits_) * 4; }

  int bits_;
  std::span<const std::byte> qweight_, qzeros_;
  const StoredTensor& scales_;
  uint64_t added_ = 1, mask_ = 0;
  bool symmetric_nibbles_ = false;
};

Expected<std::vector<CheckpointTensor>> unpack(const Json& quantization, StoredSet& tensors) {
  SHOEHORN_TRY(const int64_t bits, required_number(quantization, "bits"));
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) return fail(ErrorCode::kUnsupported, "quantization: bits is {}; GPTQ has 2, 3, 4 and 8", bits);
  const auto group_size = json_or<int64_t>(quantization, "group_size", -1);
  const bool symmetric = json_or(quantization, "sym", true);
  const bool second_version = json_or<std::string>(quantization, "checkpoint_format", "gptq") == "gptq_v2";
  std::vector<CheckpointTensor> out;
  for (const std::string& module : tensors.modules(".qweight")) {
    SHOEHORN_TRY(StoredTensor qweight, tensors.take(module + ".qweight", {DType::I32, DType::U32}, 2));
    SHOEHORN_TRY(StoredTensor qzeros, tensors.take(module + ".qzeros", {DType::I32, DType::U32}, 2));
    SHOEHORN_TRY(StoredTensor scales, tensors.take(module + ".scales", kScaleTypes, 2));
    const auto width = static_cast<uint64_t>(bits);
    const uint64_t n_rows = qweight.shape[1], n_cols = qweight.shape[0] / width * 32, n_groups = scales.shape[0];
    const bool fits = qweight.shape[0] % width == 0 && n_cols > 0 && n_rows > 0 && n_rows % 32 == 0 && n_groups > 0 && n_groups <= n_cols &&
                      scales.shape[1] == n_rows && qzeros.shape[0] == n_groups && qzeros.shape[1] == n_rows / 32 * width;
    if (!fits) {
      return fail(ErrorCode::kInvalid, "{}: qweight [{}], qzeros [{}] and scales [{}] do not fit {} bits", printable(module), fmt::join(qweight.shape, ", "),
                  fmt::join(qzeros.shape, ", "), fmt::join(scales.shape, ", "), bits);
    }
    std::vector<uint32_t> group_of_column;
    std::vector<StoredTensor> parts = {std::move(qweight), std::move(qzeros), std::move(scales)};
    if (tensors.contains(module + ".g_idx")) {
      SHOEHORN_TRY(group_of_column, take_groups(tensors, module + ".g_idx", n_cols));
    }
    const DType dtype = parts[2].dtype;
    auto matrix = std::make_shared<GptqMatrix>(n_rows, n_cols, static_cast<int>(bits), std::move(parts));
    SHOEHORN_RETURN_IF_ERROR(matrix->set_up(std::move(group_of_column), group_size, symmetric, second_version));
    out.push_back(packed_tensor(module, dtype, std::move(matrix)));
  }
  return out;
}

}  // namespace

extern const Packing gptq_packing;
const Packing gptq_packing{"gptq", unpack};

}  // namespace shoehorn::io
