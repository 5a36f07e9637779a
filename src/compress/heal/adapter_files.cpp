#include "compress/heal/adapter_files.h"

#include <set>

#include "base/output_file.h"
#include "convert/rope_rows.h"
#include "io/gguf.h"
#include "io/peft.h"
#include "io/safetensors.h"

namespace shoehorn::compress {
namespace {

using models::Role;

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data_ptr()), static_cast<size_t>(tensor.numel()) * tensor.element_size()};
}

at::Tensor plain(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU).to(at::kFloat).contiguous(); }

}  // namespace

Status write_peft(const LoraAdapter& adapter, const std::string& base_model, const std::string& directory) {
  std::set<std::string> modules;
  for (const auto& [where, pair] : adapter.pairs()) modules.insert(pair.module.substr(pair.module.rfind('.') + 1));
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
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(io::kPeftPrefix + name, io::DType::F32, {order.back().sizes().begin(), order.back().sizes().end()}));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin_file(directory + "/adapter_model.safetensors"));
  for (const at::Tensor& tensor : order) SHOEHORN_RETURN_IF_ERROR(writer.append(bytes_of(tensor)));
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  return write_file(directory + "/adapter_config.json", config.dump(2) + "\n");
}

Expected<LoraAdapter> read_peft(const std::string& directory, const BlockLoader& model, const Compute& compute) {
  SHOEHORN_TRY(const io::PeftAdapter file, io::read_peft(directory));
  LoraSettings settings;
  settings.rank = file.rank;
  settings.alpha = file.alpha;
  settings.dropout = file.dropout;
  std::set<Role> roles;
  for (const auto& [spec, stored] : model.checkpoint().tensors) {
    const Role role = spec.rule->role;
    const std::string module = spec.hf_name.substr(0, spec.hf_name.rfind('.'));
    if (!projection_name(role).empty() && file.tensors.contains(module + ".lora_A.weight")) roles.insert(role);
  }
  settings.targets.assign(roles.begin(), roles.end());
  LoraAdapter adapter(model, settings, 0, compute);
  // Adapters may leave layers out: what the file lacks is taken out here.
  at::NoGradGuard no_gradient;
  size_t used = 0;
  for (auto& [name, ours] : adapter.named()) {
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end()) {
      ours.zero_();
      continue;
    }
    const io::StoredTensor& stored = found->second;
    const std::vector<uint64_t> wanted(ours.sizes().begin(), ours.sizes().end());
    if (stored.shape != wanted) {
      return fail(ErrorCode::kInvalid, "{}: {} has shape [{}], the model calls for [{}]", file.weights_path, io::printable(stored.name),
                  fmt::join(stored.shape, ", "), fmt::join(wanted, ", "));
    }
    std::vector<float> values(static_cast<size_t>(ours.numel()));
    io::decode_floats(stored.dtype, stored.data.data(), values.size(), values.data());
    ours.copy_(at::from_blob(values.data(), ours.sizes(), at::kFloat));
    ++used;
  }
  if (used != file.tensors.size()) {
    return fail(ErrorCode::kUnsupported, "{}: {} of its {} tensors belong to no projection of the model", file.weights_path,
                file.tensors.size() - used, file.tensors.size());
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
  const auto specs = models::tensor_specs(architecture, h);
  for (const models::FileTensor& matrix : models::gguf_tensors(specs)) {
    const bool by_expert = matrix.shape.size() == 3;  // each with an A of its own
    std::vector<at::Tensor> a_parts, b_parts;
    for (const models::TensorSpec& spec : matrix.parts) {
      const LoraAdapter::Rows trained = adapter.rows(spec.layer, spec.id());
      if (trained.pair == nullptr) continue;
      if (by_expert || a_parts.empty()) a_parts.push_back(plain(trained.pair->a));
      at::Tensor b = plain(trained.b());
      if (architecture.rope == models::RopeType::kNorm && spec.rule->rope_rows != models::RopeRows::kNone) {
        std::vector<int64_t> rows;
        for (int64_t row = 0; row < b.size(0); ++row) {
          rows.push_back(static_cast<int64_t>(convert::hf_row(static_cast<uint64_t>(row), h.head_dim, h.n_rot)));
        }
        b = b.index_select(0, at::tensor(rows, at::kLong));
      }
      b_parts.push_back(b);
    }
    if (b_parts.empty()) continue;
    for (const auto& [suffix, parts] : {std::pair(".lora_a", a_parts), std::pair(".lora_b", b_parts)}) {
      const at::Tensor tensor = at::cat(parts).contiguous();
      const auto n_cols = static_cast<uint64_t>(tensor.size(1)), n_rows = static_cast<uint64_t>(tensor.size(0));
      const uint64_t n = by_expert ? parts.size() : 1;
      std::vector<uint64_t> shape = {n_cols, n_rows / n};
      if (by_expert) shape.push_back(n);
      SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(matrix.name + suffix, quant::Type::F32, std::move(shape)));
      order.push_back(tensor);
    }
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin(path));
  for (const at::Tensor& tensor : order) SHOEHORN_RETURN_IF_ERROR(writer.append(bytes_of(tensor)));
  return writer.commit();
}

}  // namespace shoehorn::compress
