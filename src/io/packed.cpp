#include "io/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/float16.h"
#include "quant/q4_0.h"

namespace shoehorn::io {

#define SHOEHORN_PACKING(name) extern const Packing name##_packing;
#include "io/packed.inc"
#undef SHOEHORN_PACKING

namespace {

constexpr const Packing* kPackings[] = {
#define SHOEHORN_PACKING(name) &name##_packing,
#include "io/packed.inc"
#undef SHOEHORN_PACKING
};

const Packing* find_packing(std::string_view method) {
  const auto found = std::find_if(std::begin(kPackings), std::end(kPackings), [&](const Packing* p) { return method == p->method; });
  return found == std::end(kPackings) ? nullptr : *found;
}

}  // namespace

Status PackedMatrix::encode(uint64_t, uint64_t, std::byte*) const {
  return fail(ErrorCode::kUnsupported, "{} is the same as no GGUF type", parts_.front().name);
}

void PackedMatrix::expect() const {
  for (const StoredTensor& part : parts_) {
    if (part.file != nullptr) part.file->expect(part.data);
  }
}

void PackedMatrix::release() const {
  for (const StoredTensor& part : parts_) {
    if (part.file != nullptr) part.file->release(part.data);
  }
}

Expected<StoredSet> StoredSet::of(std::vector<StoredTensor> tensors) {
  StoredSet out;
  for (StoredTensor& tensor : tensors) {
    const std::string name = tensor.name;
    if (!out.tensors_.emplace(name, std::move(tensor)).second) return fail(ErrorCode::kInvalid, "tensor {} is there twice", printable(name));
  }
  return out;
}

std::vector<std::string> StoredSet::modules(std::string_view suffix) const {
  std::vector<std::string> out;
  for (const auto& [name, tensor] : tensors_) {
    if (name.ends_with(suffix)) out.push_back(name.substr(0, name.size() - suffix.size()));
  }
  return out;
}

Expected<StoredTensor> StoredSet::take(const std::string& name, std::initializer_list<DType> dtypes, size_t n_dims) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return fail(ErrorCode::kInvalid, "tensor {} is missing", printable(name));
  const StoredTensor& tensor = found->second;
  if (std::find(dtypes.begin(), dtypes.end(), tensor.dtype) == dtypes.end())
    return fail(ErrorCode::kInvalid, "tensor {} has dtype {}, which is not one that it is packed in", printable(name), dtype_info(tensor.dtype).name);
  if (tensor.shape.size() != n_dims || !tensor.stride.empty())
    return fail(ErrorCode::kInvalid, "tensor {} has {} dimensions, or gaps; expected {} in one piece", printable(name), tensor.shape.size(), n_dims);
  StoredTensor out = tensor;
  tensors_.erase(found);
  return out;
}

std::vector<StoredTensor> StoredSet::rest() && {
  std::vector<StoredTensor> out;
  for (auto& [name, tensor] : tensors_) out.push_back(std::move(tensor));
  return out;
}

Expected<PackedConfig> packed_config(const Json& config) {
  PackedConfig out;
  if (!config.is_object()) return out;
  const auto stated = [&](const char* key) {
    const auto it = config.find(key);
    return it == config.end() || it->is_null() ? Json() : *it;
  };
  if (out.quantization = stated("quantization_config"); out.quantization.is_object() && !out.quantization.empty()) {
    std::string method = json_or<std::string>(out.quantization, "quant_method", "");
    // bitsandbytes' first configurations say what is loaded, MLX' what there is.
    if (method.empty() && (out.quantization.contains("load_in_4bit") || out.quantization.contains("load_in_8bit"))) method = "bitsandbytes";
    if (method.empty() && out.quantization.contains("bits") && out.quantization.contains("group_size")) method = "mlx";
    out.packing = find_packing(method);
    if (out.packing != nullptr) return out;
    std::string known;
    for (const Packing* packing : kPackings) known += (known.empty() ? "" : ", ") + std::string(packing->method);
    return fail(ErrorCode::kUnsupported, "the checkpoint is already quantized ({}); {} can be read, for others start from the original weights",
                method.empty() ? "by no method that it names" : printable(method), known);
  }
  // The first BitNet models say in a key of their own that their weights are rounded when they are used.
  if (stated("weight_bits") == 1) {
    out.quantization = {{"quant_method", "bitnet"}, {"quantization_mode", "online"}};
    out.packing = find_packing("bitnet");
    return out;
  }
  if (out.quantization = stated("quantization"); out.quantization.is_object() && out.quantization.contains("bits")) out.packing = find_packing("mlx");
  return out;
}

CheckpointTensor packed_tensor(const std::string& module, DType dtype, std::shared_ptr<const PackedMatrix> matrix) {
  CheckpointTensor out{module + ".weight", dtype, {matrix->n_rows(), matrix->n_cols()}, {}, matrix->parts().front().file};
  out.packed = std::move(matrix);
  return out;
}

void read_bits(const std::byte* words, uint64_t stride, int bits, uint64_t n, uint8_t* out) {
  const uint32_t mask = (1u << bits) - 1;
  uint64_t held = 0;
  int n_held = 0;
  for (uint64_t i = 0; i < n; ++i) {
    if (n_held < bits) {
      uint32_t word;
      std::memcpy(&word, words, sizeof word);
      words += stride * sizeof word;
      held |= uint64_t{word} << n_held;
      n_held += 32;
    }
    out[i] = static_cast<uint8_t>(held & mask);
    held >>= bits;
    n_held -= bits;
  }
}

float float_at(const StoredTensor& tensor, uint64_t i) {
  float value;
  decode_floats(tensor.dtype, tensor.data.data() + i * dtype_info(tensor.dtype).bytes, 1, &value);
  return value;
}

Expected<std::vector<uint32_t>> take_groups(StoredSet& tensors, const std::string& name, uint64_t n_cols) {
  SHOEHORN_TRY(const StoredTensor stored, tensors.take(name, {DType::I32, DType::U32}, 1));
  if (stored.shape[0] != n_cols) return fail(ErrorCode::kInvalid, "{} has {} entries for {} columns", printable(name), stored.shape[0], n_cols);
  std::vector<uint32_t> out(n_cols);
  std::memcpy(out.data(), stored.data.data(), n_cols * sizeof(uint32_t));
  return out;
}

Expected<int64_t> required_number(const Json& quantization, const char* key) {
  const auto it = quantization.find(key);
  if (it == quantization.end() || !it->is_number_integer()) return fail(ErrorCode::kInvalid, "quantization: {} is missing or no whole number", key);
  return it->get<int64_t>();
}

void GroupedMatrix::set_groups(uint64_t size) {
  group_size_ = size;
  n_groups_ = (n_cols() + size - 1) / size;
}

Status GroupedMatrix::set_groups(std::vector<uint32_t> of_column, uint64_t size, uint64_t n_groups) {
  bool in_order = true;
  for (uint64_t c = 0; c < of_column.size(); ++c) {
    if (of_column[c] >= n_groups) return fail(ErrorCode::kInvalid, "{}: column {} is of group {}, there are {}", printable(parts().front().name), c, of_column[c], n_groups);
    in_order &= of_column[c] == c / size;
  }
  if (in_order) {
    set_groups(size);
  } else {
    of_column_ = std::move(of_column);
  }
  n_groups_ = n_groups;
  return {};
}

void GroupedMatrix::read(uint64_t first, uint64_t n, float* out) const {
  std::vector<uint8_t> row_codes(n_cols());
  std::vector<float> scale(n_groups_), zero(n_groups_);
  for (uint64_t r = first; r < first + n; ++r, out += n_cols()) {
    codes(r, row_codes.data());
    scales(r, scale.data());
    zeros(r, zero.data());
    if (of_column_.empty()) {
      for (uint64_t g = 0; g < n_groups_; ++g) {
        const uint64_t end = std::min(n_cols(), (g + 1) * group_size_);
        for (uint64_t c = g * group_size_; c < end; ++c) out[c] = (static_cast<float>(row_codes[c]) - zero[g]) * scale[g];
      }
    } else {
      for (uint64_t c = 0; c < n_cols(); ++c) out[c] = (static_cast<float>(row_codes[c]) - zero[of_column_[c]]) * scale[of_column_[c]];
    }
  }
}

std::optional<quant::Type> GroupedMatrix::same_as() const {
  const bool whole_blocks = of_column_.empty() && group_size_ % quant::q4_0::kBlockSize == 0 && n_cols() % quant::q4_0::kBlockSize == 0;
  if (!whole_blocks || !scales_are_f16_ || !is_symmetric_nibbles()) return std::nullopt;
  return quant::Type::Q4_0;
}

Status GroupedMatrix::encode(uint64_t first, uint64_t n, std::byte* out) const {
  constexpr uint64_t kBlock = quant::q4_0::kBlockSize;
  std::vector<uint8_t> row_codes(n_cols());
  std::vector<float> scale(n_groups_);
  for (uint64_t r = first; r < first + n; ++r) {
    codes(r, row_codes.data());
    scales(r, scale.data());
    for (uint64_t c = 0; c < n_cols(); c += kBlock) {
      const float d = scale[c / group_size_];
      if (!std::isfinite(d)) return fail(ErrorCode::kInvalid, "{}: a scale of row {} is not finite", printable(parts().front().name), r);
      quant::q4_0::Block block;
      block.d = fp32_to_fp16(d);
      for (uint64_t i = 0; i < kBlock / 2; ++i) block.qs[i] = static_cast<uint8_t>(row_codes[c + i] | row_codes[c + kBlock / 2 + i] << 4);
      std::memcpy(out, &block, sizeof block);
      out += sizeof block;
    }
  }
  return {};
}

}  // namespace shoehorn::io
