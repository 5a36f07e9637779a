// AWQ's GEMM layout (github.com/casper-hansen/AutoAWQ, awq/modules/linear/gemm.py): qweight int32 [n_in, n_out / 8], the outputs of a word in the
// order 0, 2, 4, 6, 1, 3, 5, 7 from its lowest bits; qzeros int32 [n_groups, n_out / 8] likewise; scales F16 [n_groups, n_out].
#include <cstring>

#include "io/packed.h"

namespace shoehorn::io {
namespace {

/// The nibble of a word that output i of 8 is in.
constexpr uint32_t kNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

class AwqMatrix : public GroupedMatrix {
 public:
  AwqMatrix(uint64_t n_rows, uint64_t n_cols, uint64_t group_size, std::vector<StoredTensor> parts)
      : GroupedMatrix(n_rows, n_cols, std::move(parts)), scales_(this->parts()[2]) {
    scales_are_f16_ = scales_.dtype == DType::F16;
    set_groups(group_size);
    for (uint64_t row = 0; row < n_rows && symmetric_; ++row) {
      for (uint64_t g = 0; g < n_groups(); ++g) symmetric_ &= nibble(this->parts()[1], g, row) == 8;
    }
  }

 protected:
  void codes(uint64_t row, uint8_t* out) const override {
    for (uint64_t c = 0; c < n_cols(); ++c) out[c] = nibble(parts()[0], c, row);
  }
  void scales(uint64_t row, float* out) const override {
    for (uint64_t g = 0; g < n_groups(); ++g) out[g] = float_at(scales_, g * n_rows() + row);
  }
  void zeros(uint64_t row, float* out) const override {
    for (uint64_t g = 0; g < n_groups(); ++g) out[g] = static_cast<float>(nibble(parts()[1], g, row));
  }
  bool is_symmetric_nibbles() const override { return symmetric_; }

 private:
  uint8_t nibble(const StoredTensor& words, uint64_t line, uint64_t row) const {
    uint32_t word;
    std::memcpy(&word, words.data.data() + (line * (n_rows() / 8) + row / 8) * 4, sizeof word);
    return static_cast<uint8_t>(word >> (4 * kNibble[row % 8]) & 15);
  }

  const StoredTensor& scales_;
  bool symmetric_ = true;
};

Expected<std::vector<CheckpointTensor>> unpack(const Json& quantization, StoredSet& tensors) {
  const auto bits = json_or<int64_t>(quantization, "bits", json_or<int64_t>(quantization, "w_bit", 0));
  if (bits != 4) return fail(ErrorCode::kUnsupported, "quantization: bits is {}; AWQ has 4", bits);
  std::string version = json_or<std::string>(quantization, "version", "gemm");
  for (char& c : version) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (version != "gemm") return fail(ErrorCode::kUnsupported, "quantization: version \"{}\"; AWQ's gemm layout can be read", printable(version));
  const auto stated = json_or<int64_t>(quantization, "group_size", json_or<int64_t>(quantization, "q_group_size", 128));
  std::vector<CheckpointTensor> out;
  for (const std::string& module : tensors.modules(".qweight")) {
    SHOEHORN_TRY(StoredTensor qweight, tensors.take(module + ".qweight", {DType::I32, DType::U32}, 2));
    SHOEHORN_TRY(StoredTensor qzeros, tensors.take(module + ".qzeros", {DType::I32, DType::U32}, 2));
    SHOEHORN_TRY(StoredTensor scales, tensors.take(module + ".scales", kScaleTypes, 2));
    const uint64_t n_cols = qweight.shape[0], n_rows = qweight.shape[1] * 8;
    const uint64_t size = stated > 0 ? static_cast<uint64_t>(stated) : n_cols, n_groups = size == 0 ? 0 : (n_cols + size - 1) / size;
    const bool fits = n_cols > 0 && n_rows > 0 && scales.shape[0] == n_groups && scales.shape[1] == n_rows && qzeros.shape[0] == n_groups && qzeros.shape[1] * 8 == n_rows;
    if (!fits) {
      return fail(ErrorCode::kInvalid, "{}: qweight [{}], qzeros [{}] and scales [{}] do not fit groups of {}", printable(module), fmt::join(qweight.shape, ", "),
                  fmt::join(qzeros.shape, ", "), fmt::join(scales.shape, ", "), size);
    }
    const DType dtype = scales.dtype;
    out.push_back(packed_tensor(module, dtype, std::make_shared<AwqMatrix>(n_rows, n_cols, size, std::vector<StoredTensor>{std::move(qweight), std::move(qzeros), std::move(scales)})));
  }
  return out;
}

}  // namespace

extern const Packing awq_packing;
const Packing awq_packing{"awq", unpack};

}  // namespace shoehorn::io
