#include "io/peft.h"

#include <cmath>

#include "base/json.h"
#include "io/safetensors.h"

namespace shoehorn::io {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr int64_t kMaxRank = 65536;

Status read_config(const std::string& path, PeftAdapter& adapter) {
  SHOEHORN_TRY(const Json config, read_json(path, kMaxConfigBytes));
  if (const auto type = json_or<std::string>(config, "peft_type", ""); type != "LORA") {
    return fail(ErrorCode::kUnsupported, "{}: peft_type is \"{}\", LORA is supported", path, printable(type));
  }
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"}) {
    if (json_or(config, key, false)) return fail(ErrorCode::kUnsupported, "{}: {} is not supported", path, key);
  }
  for (const char* key : {"rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication"}) {
    if (config.contains(key) && !config[key].is_null() && !config[key].empty()) {
      return fail(ErrorCode::kUnsupported, "{}: {} is not supported", path, key);
    }
  }
  if (const auto bias = json_or<std::string>(config, "bias", "none"); bias != "none") {
    return fail(ErrorCode::kUnsupported, "{}: bias \"{}\" is not supported", path, printable(bias));
  }
  adapter.rank = json_or<int64_t>(config, "r", 0);
  adapter.alpha = json_or<double>(config, "lora_alpha", 0);
  adapter.dropout = json_or<double>(config, "lora_dropout", 0);
  if (adapter.rank < 1 || adapter.rank > kMaxRank)
    return fail(ErrorCode::kInvalid, "{}: r is {}, expected 1 to {}", path, adapter.rank, kMaxRank);
  if (!std::isfinite(adapter.alpha)) return fail(ErrorCode::kInvalid, "{}: lora_alpha is {}", path, adapter.alpha);
  if (json_or(config, "use_rslora", false)) adapter.alpha *= std::sqrt(static_cast<double>(adapter.rank));
  return {};
}

}  // namespace

Expected<PeftAdapter> read_peft(const std::string& directory) {
  PeftAdapter adapter;
  SHOEHORN_RETURN_IF_ERROR(read_config(directory + "/adapter_config.json", adapter));
  adapter.weights_path = directory + "/adapter_model.safetensors";
  SHOEHORN_TRY(adapter.file, MappedFile::open(adapter.weights_path));
  SHOEHORN_TRY(auto tensors, read_safetensors(adapter.file.bytes(), adapter.weights_path));
  for (StoredTensor& tensor : tensors) {
    const std::string shown = printable(tensor.name);
    if (!tensor.name.starts_with(kPeftPrefix)) {
      return fail(ErrorCode::kUnsupported, "{}: tensor {} is not one of a model's blocks", adapter.weights_path, shown);
    }
    const bool a = tensor.name.ends_with(".lora_A.weight"), b = tensor.name.ends_with(".lora_B.weight");
    if (!a && !b)
      return fail(ErrorCode::kUnsupported, "{}: tensor {} is neither a lora_A nor a lora_B", adapter.weights_path,
                  shown);
    const auto rank = static_cast<uint64_t>(adapter.rank);
    if (tensor.shape.size() != 2 || tensor.shape[a ? 0 : 1] != rank) {
      return fail(ErrorCode::kInvalid, "{}: {} has shape [{}], r is {}", adapter.weights_path, shown,
                  fmt::join(tensor.shape, ", "), rank);
    }
    if (!dtype_info(tensor.dtype).floating)
      return fail(ErrorCode::kInvalid, "{}: {} is not floating point", adapter.weights_path, shown);
    std::string name = tensor.name.substr(std::string_view(kPeftPrefix).size());
    adapter.tensors.emplace(std::move(name), std::move(tensor));
  }
  return adapter;
}

}  // namespace shoehorn::io
