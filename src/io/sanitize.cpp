#include "io/sanitize.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <new>
#include <set>
#include <string_view>

#include "base/checked.h"

namespace shoehorn::io {
namespace {

/// Prefixes that DataParallel, torch.compile, FSDP, DeepSpeed and PEFT put before the model's names.
constexpr auto kPrefixes = std::to_array<std::string_view>(
    {"module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.", "base_model.model."});

/// The same in the middle of a name, where a submodule was wrapped.
constexpr auto kInfixes =
    std::to_array<std::string_view>({"._orig_mod.", "._fsdp_wrapped_module.", "._checkpoint_wrapped_module."});

std::string canonical_name(std::string name) {
  for (bool again = true; again;) {
    again = false;
    for (const auto prefix : kPrefixes) {
      if (!name.starts_with(prefix)) continue;
      name.erase(0, prefix.size());
      again = true;
    }
  }
  for (const auto infix : kInfixes) {
    for (size_t at; (at = name.find(infix)) != std::string::npos;) name.erase(at, infix.size() - 1);
  }
  // A state dict that was saved under the key "model" and whose own names begin with it.
  if (name.starts_with("model.model.")) name.erase(0, 6);
  return name;
}

std::string file_of(const StoredTensor& tensor) { return tensor.file == nullptr ? "memory" : tensor.file->path(); }

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(), [&](auto suffix) { return name.ends_with(suffix); });
}

bool contains_any(std::string_view name, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [&](auto part) { return name.find(part) != std::string_view::npos; });
}

/// Why a checkpoint with this tensor cannot be read as plain weights; nullptr when it can.
const char* unreadable(std::string_view name, DType dtype, size_t n_dims) {
  if (contains_any(name, {".lora_A.", ".lora_B.", ".lora_embedding_", ".lora_magnitude_vector"})) {
    return "an unmerged LoRA adapter; merge it first (peft: model.merge_and_unload())";
  }
  if (ends_with_any(name, {".qweight", ".qzeros", ".g_idx"})) {
    return "a GPTQ or AWQ quantized checkpoint, and no quantization_config says how";
  }
  if (contains_any(name, {".quant_state.", ".quant_map", ".absmax"}) || name.ends_with(".SCB")) {
    return "a bitsandbytes quantized checkpoint, and no quantization_config says so";
  }
  if (ends_with_any(name, {".weight_scale", ".weight_scale_inv", ".weight_packed", ".input_scale"})) {
    return "a scaled FP8 or packed checkpoint, and no quantization_config says how";
  }
  if (name.ends_with(".weight") && n_dims >= 2 && !dtype_info(dtype).floating) {
    return "a weight of whole numbers, and no quantization_config says what they stand for";
  }
  return nullptr;
}

/// Why a tensor is no weight of the model; nullptr when it is one.
const char* foreign(std::string_view name, DType dtype, size_t n_dims) {
  if (ends_with_any(name, {".inv_freq", ".original_inv_freq", ".cos_cached", ".sin_cached", "rope.freqs"})) {
    return "rotary table, computed from the config";
  }
  if (ends_with_any(name, {".masked_bias", ".causal_mask", ".attention_mask"}) ||
      (ends_with_any(name, {".attn.bias", "attention.bias"}) && n_dims == 4)) {
    return "attention mask buffer";
  }
  if (contains_any(name, {"exp_avg", "momentum_buffer", "max_exp_avg_sq"})) return "optimizer state";
  if (ends_with_any(name, {"_mask", ".mask", ".mask_scores", ".importance", ".saliency", ".acc_grad", ".grad"}) ||
      contains_any(name, {"pruning_mask", "pruner."})) {
    return "pruner's buffer";
  }
  if (!dtype_info(dtype).floating) return "whole numbers, not a weight";
  if (n_dims == 0) return "a scalar, not a weight";
  return nullptr;
}

/// torch.nn.utils.prune keeps W as the parameter W_orig and the buffer W_mask.
constexpr std::string_view kOriginal = "_orig", kMask = "_mask";

/// Hands out memory for copies and keeps count of it.
class Copies {
 public:
  explicit Copies(std::vector<std::unique_ptr<std::byte[]>>& owned) : owned_(owned) {}

  Expected<std::span<std::byte>> make(const std::string& name, uint64_t bytes) {
    const auto total = checked_add(total_, bytes);
    if (!total || *total > kMaxOwnedBytes) {
      return fail(ErrorCode::kTooLarge,
                  "tensor {}: copies of views and masked weights take more than {} bytes; save contiguous tensors, "
                  "without masks (torch.nn.utils.prune.remove)",
                  printable(name), kMaxOwnedBytes);
    }
    std::unique_ptr<std::byte[]> memory(new (std::nothrow) std::byte[bytes]);
    if (memory == nullptr) {
      return fail(ErrorCode::kTooLarge, "tensor {}: no memory for a copy of {} bytes", printable(name), bytes);
    }
    total_ = *total;
    owned_.push_back(std::move(memory));
    return std::span(owned_.back().get(), bytes);
  }

 private:
  std::vector<std::unique_ptr<std::byte[]>>& owned_;
  uint64_t total_ = 0;
};

/// Gathers a strided view into row-major order.
void gather(const StoredTensor& view, std::span<std::byte> out) {
  const uint64_t item = dtype_info(view.dtype).bytes;
  const size_t n_dims = view.shape.size();
  std::vector<uint64_t> index(n_dims, 0);
  const uint64_t n_inner = view.shape.back(), inner_stride = view.stride.back() * item;
  uint64_t row = 0;  // byte offset of the current innermost row
  for (std::byte* to = out.data(); to < out.data() + out.size();) {
    const std::byte* from = view.data.data() + row;
    if (inner_stride == item) {
      std::memcpy(to, from, n_inner * item);
      to += n_inner * item;
    } else {
      for (uint64_t i = 0; i < n_inner; ++i, to += item) std::memcpy(to, from + i * inner_stride, item);
    }
    for (size_t d = n_dims - 1; d-- > 0;) {
      row += view.stride[d] * item;
      if (++index[d] < view.shape[d]) break;
      row -= view.stride[d] * view.shape[d] * item;
      index[d] = 0;
    }
  }
}

Expected<CheckpointTensor> finish(StoredTensor&& tensor, std::string name, Copies& copies) {
  CheckpointTensor out{std::move(name), tensor.dtype, tensor.shape, tensor.data, tensor.file};
  if (tensor.stride.empty()) return out;
  SHOEHORN_TRY(const auto memory, copies.make(out.name, out.n_elements() * dtype_info(out.dtype).bytes));
  gather(tensor, memory);
  out.data = memory;
  out.file = nullptr;
  return out;
}

/// weight * mask in place of `weight`'s data.
Status apply_mask(CheckpointTensor& weight, const CheckpointTensor& mask, Copies& copies) {
  if (weight.shape != mask.shape) {
    return fail(ErrorCode::kInvalid, "tensor {}: its mask has shape [{}], not [{}]", printable(weight.name),
                fmt::join(mask.shape, ", "), fmt::join(weight.shape, ", "));
  }
  const uint64_t item = dtype_info(weight.dtype).bytes, mask_item = dtype_info(mask.dtype).bytes;
  const bool floating = dtype_info(mask.dtype).floating;
  SHOEHORN_TRY(const auto memory, copies.make(weight.name, weight.data.size()));
  for (uint64_t i = 0, n = weight.n_elements(); i < n; ++i) {
    float value = 0;
    if (floating) {
      read_floats(mask, i, 1, &value);
    } else {
      uint64_t bits = 0;
      std::memcpy(&bits, mask.data.data() + i * mask_item, mask_item);
      value = bits > 1 ? 2.0f : static_cast<float>(bits);
    }
    if (value != 0.0f && value != 1.0f) {
      return fail(ErrorCode::kUnsupported, "tensor {}: its mask holds values other than 0 and 1",
                  printable(weight.name));
    }
    if (value == 0.0f) {
      std::memset(memory.data() + i * item, 0, item);
    } else {
      std::memcpy(memory.data() + i * item, weight.data.data() + i * item, item);
    }
  }
  weight.data = memory;
  weight.file = nullptr;
  return {};
}

}  // namespace

Expected<SanitizedTensors> sanitize(std::vector<StoredTensor> stored) {
  SanitizedTensors out;
  Copies copies(out.owned);
  std::map<std::string, StoredTensor> by_name;
  std::vector<std::string> order;
  bool bare_model = false, has_model_prefix = false;
  for (StoredTensor& tensor : stored) {
    std::string name = canonical_name(tensor.name);
    bare_model |= name == "embed_tokens.weight";
    has_model_prefix |= name.starts_with("model.");
    const auto [it, fresh] = by_name.try_emplace(name, std::move(tensor));
    if (!fresh) {
      return fail(ErrorCode::kInvalid, "tensor {} is there twice (in {} and {})", printable(name), file_of(it->second),
                  file_of(tensor));
    }
    order.push_back(std::move(name));
  }
  bare_model &= !has_model_prefix;

  std::set<std::string> used_masks;
  for (const std::string& name : order) {
    if (name.ends_with(kOriginal)) {
      used_masks.insert(name.substr(0, name.size() - kOriginal.size()) + std::string(kMask));
    }
  }
  for (std::string& name : order) {
    StoredTensor& tensor = by_name.at(name);
    if (const char* reason = unreadable(name, tensor.dtype, tensor.shape.size())) {
      return fail(ErrorCode::kUnsupported, "{}: tensor {} of dtype {} belongs to {}", file_of(tensor), printable(name),
                  dtype_info(tensor.dtype).name, reason);
    }
    if (used_masks.contains(name)) {
      out.dropped.push_back(printable(name) + " (mask, applied to the weight)");
      continue;
    }
    if (const char* reason = foreign(name, tensor.dtype, tensor.shape.size())) {
      out.dropped.push_back(fmt::format("{} ({})", printable(name), reason));
      continue;
    }
    std::string final_name = name;
    const bool masked = name.ends_with(kOriginal);
    if (masked) final_name.resize(final_name.size() - kOriginal.size());
    const auto mask = by_name.find(final_name + std::string(kMask));
    if (masked && mask == by_name.end()) {
      return fail(ErrorCode::kUnsupported, "{}: tensor {} is half of a parametrization whose mask is missing",
                  file_of(tensor), printable(name));
    }
    if (masked && by_name.contains(final_name)) {
      return fail(ErrorCode::kInvalid, "{}: both {} and {} are there", file_of(tensor), printable(final_name),
                  printable(name));
    }
    if (bare_model && !final_name.starts_with("lm_head.")) final_name = "model." + final_name;
    SHOEHORN_TRY(auto weight, finish(std::move(tensor), std::move(final_name), copies));
    if (masked) {
      SHOEHORN_TRY(const auto mask_tensor, finish(StoredTensor(mask->second), mask->first, copies));
      SHOEHORN_RETURN_IF_ERROR(apply_mask(weight, mask_tensor, copies));
    }
    out.tensors.push_back(std::move(weight));
  }
  return out;
}

}  // namespace shoehorn::io
