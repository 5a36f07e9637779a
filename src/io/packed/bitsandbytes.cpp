// bitsandbytes (github.com/bitsandbytes-foundation/bitsandbytes, functional.py). 4 bits, NF4 (Dettmers et al. 2023, arXiv:2305.14314) or
// FP4: "weight" uint8 [n / 2, 1], two codes a byte, the first in the high bits; a block of 64 (quant_state's "blocksize") codes has an
// absmax; quant_map has what a code stands for. Nested: absmax uint8, which stand for
// nested_quant_map[absmax] * nested_absmax + nested_offset. 8 bits: "weight" int8 [n_out, n_in], SCB the largest of each row: w = q SCB / 127.
#include <cmath>
#include <cstring>

#include "io/packed.h"

namespace shoehorn::io {
namespace {

constexpr uint64_t kMaxStateBytes = 1 << 16;

std::vector<float> all_floats(const StoredTensor& tensor) {
  std::vector<float> out(tensor.shape[0]);
  decode_floats(tensor.dtype, tensor.data.data(), out.size(), out.data());
  return out;
}

class FourBitMatrix : public PackedMatrix {
 public:
  struct State {
    uint64_t block = 64, nested_block = 256;
    float nested_offset = 0;
    std::vector<float> map, nested_map;  // [16], [256] or empty
  };
  /// parts: the codes, absmax, and where that is nested its own.
  FourBitMatrix(uint64_t n_rows, uint64_t n_cols, State state, std::vector<StoredTensor> parts)
      : PackedMatrix(n_rows, n_cols, std::move(parts)), state_(std::move(state)) {}

  void read(uint64_t first, uint64_t n, float* out) const override {
    const auto* bytes = reinterpret_cast<const uint8_t*>(parts()[0].data.data());
    uint64_t block = UINT64_MAX;
    float scale = 0;
    for (uint64_t i = first * n_cols(); i < (first + n) * n_cols(); ++i) {
      if (i / state_.block != block) scale = absmax(block = i / state_.block);
      const uint8_t code = i % 2 == 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15;
      *out++ = state_.map[code] * scale;
    }
  }

 private:
  float absmax(uint64_t block) const {
    if (state_.nested_map.empty()) return float_at(parts()[1], block);
    const auto code = static_cast<uint8_t>(parts()[1].data[block]);
    return state_.nested_map[code] * float_at(parts()[2], block / state_.nested_block) + state_.nested_offset;
  }

  State state_;
};

class EightBitMatrix : public PackedMatrix {
 public:
  using PackedMatrix::PackedMatrix;
  void read(uint64_t first, uint64_t n, float* out) const override {
    const auto* codes = reinterpret_cast<const int8_t*>(parts()[0].data.data());
    for (uint64_t r = first; r < first + n; ++r) {
      const float scale = float_at(parts()[1], r) / 127;
      for (uint64_t c = 0; c < n_cols(); ++c) *out++ = static_cast<float>(codes[r * n_cols() + c]) * scale;
    }
  }
};

Expected<CheckpointTensor> four_bits(const std::string& module, const std::string& kind, StoredSet& tensors) {
  const std::string weight = module + ".weight";
  SHOEHORN_TRY(const StoredTensor stated, tensors.take(weight + ".quant_state.bitsandbytes__" + kind, {DType::U8}, 1));
  if (stated.data.size() > kMaxStateBytes) return fail(ErrorCode::kTooLarge, "tensor {} has {} bytes", printable(stated.name), stated.data.size());
  auto parsed = parse_json({reinterpret_cast<const char*>(stated.data.data()), stated.data.size()});
  if (!parsed) return annotate(parsed.error(), printable(stated.name));
  const Json& json = *parsed;
  const Json shape = json.is_object() && json.contains("shape") ? json["shape"] : Json();
  const auto size = [](const Json& n) { return n.is_number_unsigned() && n.get<uint64_t>() > 0 && n.get<uint64_t>() < uint64_t{1} << 32; };
  if (!shape.is_array() || shape.size() != 2 || !size(shape[0]) || !size(shape[1]))
    return fail(ErrorCode::kInvalid, "{}: shape is {}, expected two whole numbers", printable(stated.name), shape.dump());
  const auto n_rows = shape[0].get<uint64_t>(), n_cols = shape[1].get<uint64_t>(), n = n_rows * n_cols;
  FourBitMatrix::State state;
  state.block = json_or<uint64_t>(json, "blocksize", 64);
  state.nested_block = json_or<uint64_t>(json, "nested_blocksize", 256);
  state.nested_offset = json_or<float>(json, "nested_offset", 0);
  if (state.block == 0 || state.nested_block == 0) return fail(ErrorCode::kInvalid, "{}: a blocksize is 0", printable(stated.name));
  // Codes are [n / 2, 1]; some have them flat.
  SHOEHORN_TRY(StoredTensor codes, tensors.take(weight, {DType::U8}, 2));
  const bool nested = tensors.contains(weight + ".nested_absmax");
  SHOEHORN_TRY(StoredTensor absmax, nested ? tensors.take(weight + ".absmax", {DType::U8}, 1)
                                           : tensors.take(weight + ".absmax", kScaleTypes, 1));
  SHOEHORN_TRY(const StoredTensor map, tensors.take(weight + ".quant_map", {DType::F32}, 1));
  const uint64_t n_blocks = (n + state.block - 1) / state.block;
  if (codes.data.size() != (n + 1) / 2 || absmax.shape[0] != n_blocks || map.shape[0] != 16) {
    return fail(ErrorCode::kInvalid, "{}: {} bytes of codes, {} of absmax and a map of {} are no matrix [{}, {}] in blocks of {}", printable(weight), codes.data.size(),
                absmax.shape[0], map.shape[0], n_rows, n_cols, state.block);
  }
  state.map = all_floats(map);
  std::vector<StoredTensor> parts = {std::move(codes), std::move(absmax)};
  if (nested) {
    SHOEHORN_TRY(StoredTensor nested_absmax, tensors.take(weight + ".nested_absmax", {DType::F32}, 1));
    SHOEHORN_TRY(const StoredTensor nested_map, tensors.take(weight + ".nested_quant_map", {DType::F32}, 1));
    if (nested_map.shape[0] != 256 || nested_absmax.shape[0] != (n_blocks + state.nested_block - 1) / state.nested_block)
      return fail(ErrorCode::kInvalid, "{}: nested_absmax of {} and nested_quant_map of {} do not fit {} blocks", printable(weight), nested_absmax.shape[0], nested_map.shape[0], n_blocks);
    state.nested_map = all_floats(nested_map);
    parts.push_back(std::move(nested_absmax));
  }
  const DType dtype = json_or<std::string>(json, "dtype", "") == "float16" ? DType::F16 : DType::BF16;
  return packed_tensor(module, dtype, std::make_shared<FourBitMatrix>(n_rows, n_cols, std::move(state), std::move(parts)));
}

Expected<std::vector<CheckpointTensor>> unpack(const Json&, StoredSet& tensors) {
  std::vector<CheckpointTensor> out;
  for (const char* kind : {"nf4", "fp4"}) {
    for (const std::string& module : tensors.modules(std::string(".weight.quant_state.bitsandbytes__") + kind)) {
      SHOEHORN_TRY(auto tensor, four_bits(module, kind, tensors));
      out.push_back(std::move(tensor));
    }
  }
  for (const std::string& module : tensors.modules(".SCB")) {
    SHOEHORN_TRY(StoredTensor codes, tensors.take(module + ".weight", {DType::I8}, 2));
    SHOEHORN_TRY(StoredTensor largest, tensors.take(module + ".SCB", kScaleTypes, 1));
    tensors.drop(module + ".weight_format");
    const uint64_t n_rows = codes.shape[0], n_cols = codes.shape[1];
    if (largest.shape[0] != n_rows || n_cols == 0) return fail(ErrorCode::kInvalid, "{} has {} entries for {} rows", printable(largest.name), largest.shape[0], n_rows);
    out.push_back(packed_tensor(module, DType::F16, std::make_shared<EightBitMatrix>(n_rows, n_cols, std::vector<StoredTensor>{std::move(codes), std::move(largest)})));
  }
  return out;
}

}  // namespace

extern const Packing bitsandbytes_packing;
const Packing bitsandbytes_packing{"bitsandbytes", unpack};

}  // namespace shoehorn::io
