#include "compress/heal/adapter_files.h"

#include <cmath>
#include <set>

#include "base/output_file.h"
#include "convert/rope_rows.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace shoehorn::compress {
namespace {

using models::Role;

constexpr const char* kPrefix = "base_model.model.model.";
constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()), static_cast<size_t>(tensor.numel()) * tensor.element_size()};
}

at::Tensor plain(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU).to(at::kFloat).contiguous(); }

}  // namespace

Status write_peft(const LoraAdapter& adapter, const std::string& base_model, const std::string& directory) {
  Json modules = Json::array();
  for (const Role role : adapter.settings().targets) modules.push_back(projection_name(role));
  const Json config = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"base_model_name_or_path", base_model},
                       {"r", adapter.settings().rank},
                       {"lora_alpha", adapter.settings().alpha},
                       {"lora_dropout", adapter.settings().dropout},
                       {"target_modules", modules},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"inference_mode", true},
                       {"init_lora_weights", true},
                       {"use_rslora", false},
                       {"use_dora", false},
                       {"modules_to_save", nullptr}};
  io::SafetensorsWriter writer;
  std::vector<at::Tensor> order;
  for (const auto& [name, tensor] : adapter.named()) {
    order.push_back(plain(tensor));
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(kPrefix + name, io::DType::F32, {order.back().sizes().begin(), order.back().sizes().end()}));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin_file(directory + "/adapter_model.safetensors"));
  for (const at::Tensor& tensor : order) SHOEHORN_RETURN_IF_ERROR(writer.append(bytes_of(tensor)));
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  return write_file(directory + "/adapter_config.json", config.dump(2) + "\n");
}

Expected<LoraAdapter> read_peft(const std::string& directory, const BlockLoader& model, const Compute& compute) {
  const std::string config_path = directory + "/adapter_config.json", weights_path = directory + "/adapter_model.safetensors";
  SHOEHORN_TRY(const Json config, read_json(config_path, kMaxConfigBytes));
  if (const auto type = json_or<std::string>(config, "peft_type", ""); type != "LORA") {
    return fail(ErrorCode::kUnsupported, "{}: peft_type is \"{}\", LORA is supported", config_path, type);
  }
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"}) {
    if (json_or(config, key, false)) return fail(ErrorCode::kUnsupported, "{}: {} is not supported", config_path, key);
  }
  for (const char* key : {"rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication"}) {
    if (config.contains(key) && !config[key].is_null() && !config[key].empty()) {
      return fail(ErrorCode::kUnsupported, "{}: {} is not supported", config_path, key);
    }
  }
  if (const auto bias = json_or<std::string>(config, "bias", "none"); bias != "none") {
    return fail(ErrorCode::kUnsupported, "{}: bias \"{}\" is not supported", config_path, bias);
  }
  LoraSettings settings;
  settings.rank = json_or<int64_t>(config, "r", 0);
  settings.alpha = json_or<double>(config, "lora_alpha", 0);
  settings.dropout = json_or<double>(config, "lora_dropout", 0);
  if (settings.rank < 1 || settings.rank > 65536) return fail(ErrorCode::kInvalid, "{}: r is {}", config_path, settings.rank);
  if (json_or(config, "use_rslora", false)) settings.alpha *= std::sqrt(static_cast<double>(settings.rank));

  SHOEHORN_TRY(const auto file, MappedFile::open(weights_path));
  SHOEHORN_TRY(const auto tensors, io::read_safetensors(file.bytes(), weights_path));
  std::map<std::string, const io::StoredTensor*> by_name;
  std::set<Role> roles;
  for (const io::StoredTensor& tensor : tensors) {
    std::string name = tensor.name;
    if (!name.starts_with(kPrefix)) return fail(ErrorCode::kUnsupported, "{}: tensor {} is not one of a model's blocks", weights_path, io::printable(name));
    name.erase(0, std::string_view(kPrefix).size());
    by_name[name] = &tensor;
    for (const Role role : {Role::kAttnQ, Role::kAttnK, Role::kAttnV, Role::kAttnOutput, Role::kFfnGate, Role::kFfnUp, Role::kFfnDown}) {
      if (name.find(std::string(".") + std::string(projection_name(role)) + ".lora_") != std::string::npos) roles.insert(role);
    }
  }
  settings.targets.assign(roles.begin(), roles.end());
  LoraAdapter adapter(model, settings, 0, compute);
  // Adapters may leave layers out: what the file lacks is taken out here.
  at::NoGradGuard no_gradient;
  size_t used = 0;
  for (auto& [name, ours] : adapter.named()) {
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      ours.zero_();
      continue;
    }
    const io::StoredTensor& stored = *found->second;
    const std::vector<uint64_t> wanted(ours.sizes().begin(), ours.sizes().end());
    if (stored.shape != wanted) {
      return fail(ErrorCode::kInvalid, "{}: {} has shape [{}], the model calls for [{}]", weights_path, io::printable(stored.name),
                  fmt::join(stored.shape, ", "), fmt::join(wanted, ", "));
    }
    if (!io::dtype_info(stored.dtype).floating) return fail(ErrorCode::kInvalid, "{}: {} is not floating point", weights_path, io::printable(stored.name));
    std::vector<float> values(static_cast<size_t>(ours.numel()));
    io::decode_floats(stored.dtype, stored.data.data(), values.size(), values.data());
    ours.copy_(at::from_blob(values.data(), ours.sizes(), at::kFloat));
    ++used;
  }
  if (used != by_name.size()) {
    return fail(ErrorCode::kUnsupported, "{}: {} of its {} tensors belong to no projection of the model", weights_path, by_name.size() - used,
                by_name.size());
  }
  return adapter;
}

Status write_adapter_gguf(const LoraAdapter& adapter, const BlockLoader& model, const std::string& path) {
  const models::Architecture& architecture = model.architecture();
  const models::Hparams& h = model.hparams();
  io::GgufWriter writer;
  writer.set("general.type", std::string("adapter"));
  writer.set("general.architecture", std::string(architecture.name));
  writer.set("adapter.type", std::string("lora"));
  writer.set("adapter.lora.alpha", static_cast<float>(adapter.settings().alpha));
  std::vector<at::Tensor> order;
  for (const models::TensorSpec& spec : models::tensor_specs(architecture, h)) {
    const auto pair = adapter.pairs().find({spec.layer, spec.rule->role});
    if (pair == adapter.pairs().end()) continue;
    at::Tensor a = plain(pair->second.a), b = plain(pair->second.b);
    if (architecture.rope == models::RopeType::kNorm && spec.rule->rope_rows != models::RopeRows::kNone) {
      std::vector<int64_t> rows;
      for (int64_t row = 0; row < b.size(0); ++row) {
        rows.push_back(static_cast<int64_t>(convert::hf_row(static_cast<uint64_t>(row), h.head_dim, h.n_rot)));
      }
      b = b.index_select(0, at::tensor(rows, at::kLong));
    }
    for (const auto& [suffix, tensor] : {std::pair<const char*, at::Tensor>{".lora_a", a}, {".lora_b", b}}) {
      SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(spec.gguf_name + suffix, quant::Type::F32,
                                                 {static_cast<uint64_t>(tensor.size(1)), static_cast<uint64_t>(tensor.size(0))}));
      order.push_back(tensor);
    }
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin(path));
  for (const at::Tensor& tensor : order) SHOEHORN_RETURN_IF_ERROR(writer.append(bytes_of(tensor)));
  return writer.commit();
}

}  // namespace shoehorn::compress
