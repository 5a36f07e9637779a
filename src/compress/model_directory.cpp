#include "compress/model_directory.h"

#include <filesystem>

#include "base/function_ref.h"
#include "base/output_file.h"
#include "compress/work_directory.h"
#include "io/safetensors.h"
#include "models/keys.h"

namespace shoehorn::compress {
namespace {
namespace fs = std::filesystem;

using models::Dim;

constexpr int64_t kPieceRows = 8192;

/// Files that go along unchanged: whatever belongs to tokenizer and generation, and the licence.
bool goes_along(const std::string& name) {
  if (name == "config.json" || name == kReportFile || name.ends_with(".index.json") || name.starts_with("adapter_")) return false;
  if (name.starts_with("LICENSE") || name.starts_with("NOTICE") || name == "USE_POLICY.md") return true;
  for (const char* suffix : {".json", ".model", ".jinja", ".tiktoken"}) {
    if (name.ends_with(suffix)) return true;
  }
  return name == "merges.txt" || name == "vocab.txt";
}

Status copy_files(const std::string& from, const std::string& to) {
  std::error_code error;
  for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!it->is_regular_file() || !goes_along(name)) continue;
    SHOEHORN_TRY(const std::string text, read_file(it->path().string(), uint64_t{1} << 30));
    SHOEHORN_RETURN_IF_ERROR(write_file(to + "/" + name, text));
  }
  if (error) return fail(ErrorCode::kIo, "{}: {}", from, error.message());
  return {};
}

Json per_layer(const models::Hparams& h, uint32_t models::LayerShape::*field) {
  if (h.uniform()) return h.layers[0].*field;
  Json out = Json::array();
  for (const auto& layer : h.layers) out.push_back(layer.*field);
  return out;
}

/// One tensor of the output: where it comes from.
struct Planned {
  models::FileTensor tensor;
  int source_layer;
  io::DType dtype;
};

io::DType result_dtype(const ChangedModel& model, io::DType stored) {
  if (model.result_dtype == "bf16") return io::DType::BF16;
  if (model.result_dtype == "f16") return io::DType::F16;
  return model.result_dtype == "f32" ? io::DType::F32 : stored;
}

/// What a tensor of the output is made of: the output matrix of tied embeddings is the embedding.
models::WeightId origin(const BlockLoader& source, models::WeightId id) {
  return id.role == models::Role::kOutput && source.hparams().tied_embeddings ? models::Role::kTokenEmbd : id;
}

/// Of a layer.
at::Tensor output_part(const BlockLoader& source, const ChangedModel& model, int source_layer, const models::TensorSpec& part) {
  const models::WeightId id = part.id();
  const ChangedLayer& layer = model.layers[static_cast<size_t>(source_layer)];
  if (layer.replaced[id].defined()) return layer.replaced[id];
  const at::Tensor stored = source.stored(source_layer, id);
  if (!stored.defined()) return at::zeros({static_cast<int64_t>(part.shape[0])});
  const at::Tensor kept = cut(stored, *part.rule, part.expert, layer);
  return model.replace ? model.replace(source_layer, id, kept) : kept;
}

at::Tensor output_tensor(const BlockLoader& source, const ChangedModel& model, const Planned& planned) {
  std::vector<at::Tensor> parts;
  for (const models::TensorSpec& part : planned.tensor.parts) parts.push_back(output_part(source, model, planned.source_layer, part));
  if (parts.size() == 1) return parts.front();
  const models::TensorSpec& first = planned.tensor.parts.front();
  if (first.hf_run == 0) return at::cat(parts);
  std::vector<int64_t> sizes = parts.front().sizes().vec(), all = sizes;
  all[0] *= static_cast<int64_t>(parts.size());
  sizes.insert(sizes.begin(), -1);
  sizes[1] = static_cast<int64_t>(first.hf_run);
  for (at::Tensor& part : parts) part = part.reshape(sizes);
  return at::stack(parts, 1).reshape(all);
}

/// A global tensor, piece by piece: a vocabulary's matrix in double precision is larger than a block.
Status visit_global(const BlockLoader& source, const ChangedModel& model, const Planned& planned, FunctionRef<Status(const at::Tensor&)> visit) {
  const models::Role role = planned.tensor.parts.front().rule->role;
  const at::Tensor stored = source.stored(-1, origin(source, role));
  for (const at::Tensor& piece : stored.dim() == 2 ? stored.split(kPieceRows, 0) : std::vector<at::Tensor>{stored})
    SHOEHORN_RETURN_IF_ERROR(visit(model.replace ? model.replace(-1, role, piece) : piece));
  return {};
}

}  // namespace

const at::Tensor& ChangedLayer::kept(Dim dim, int expert) const {
  static const at::Tensor all;
  switch (dim) {
    case Dim::kFf: {
      const auto found = kept_ff.find(expert);
      return found == kept_ff.end() ? all : found->second;
    }
    case Dim::kQ: return kept_q;
    case Dim::kKv: return kept_kv;
    default: return all;
  }
}

at::Tensor cut(const at::Tensor& tensor, const models::TensorRule& rule, int expert, const ChangedLayer& layer) {
  at::Tensor out = tensor;
  const bool matrix = rule.rows != Dim::kNone;
  const at::Tensor& rows = layer.kept(rule.rows, expert);
  const at::Tensor& cols = layer.kept(rule.cols, expert);
  if (matrix && rows.defined()) out = out.index_select(0, rows.to(out.device()));
  if (cols.defined()) out = out.index_select(matrix ? 1 : 0, cols.to(out.device()));
  return out;
}

std::vector<ChangedLayer> unchanged_layers(const models::Hparams& hparams) {
  std::vector<ChangedLayer> layers(hparams.layers.size());
  for (size_t i = 0; i < layers.size(); ++i) layers[i].shape = hparams.layers[i];
  return layers;
}

models::Hparams ChangedModel::hparams(const models::Hparams& source) const {
  models::Hparams h = source;
  h.layers.clear();
  for (const ChangedLayer& layer : layers) {
    if (!layer.dropped) h.layers.push_back(layer.shape);
  }
  h.n_layer = static_cast<uint32_t>(h.layers.size());
  h.attention_output_bias |= attention_bias;
  // Hugging Face has one switch for all biases of attention. Where it is of use to others, in uniform models, q, k and v get zeros.
  h.attention_bias |= attention_bias && h.uniform();
  h.mlp_bias |= mlp_bias;
  h.tied_embeddings &= !untied;
  h.ffn_hadamard |= ffn_hadamard;
  return h;
}

Json changed_config(const Json& config, const models::Architecture& architecture, const models::Hparams& h) {
  Json out = config;
  out["num_hidden_layers"] = h.n_layer;
  out["intermediate_size"] = per_layer(h, &models::LayerShape::n_ff);
  out["num_attention_heads"] = per_layer(h, &models::LayerShape::n_head);
  out["num_key_value_heads"] = per_layer(h, &models::LayerShape::n_head_kv);
  out["head_dim"] = h.head_dim;
  for (const char* key : {"quantization_config", "quantization", "weight_bits"}) out.erase(key);  // the result's weights are plain
  out.erase("block_configs");  // DeciLM's own way to say it cannot say pruned heads
  if (!h.tied_embeddings && out.contains("tie_word_embeddings")) out["tie_word_embeddings"] = false;
  if (h.mlp_bias) out["mlp_bias"] = true;
  if (std::string name = out["architectures"][0]; h.ffn_hadamard && !name.starts_with(models::kRotatedPrefix)) {
    out["architectures"] = {std::string(models::kRotatedPrefix) + name};
    out["model_type"] = "rotated_" + json_or<std::string>(out, "model_type", "model");
  }
  if (h.attention_bias) {
    out["attention_bias"] = true;
  } else if (h.attention_output_bias) {
    out["attention_output_bias"] = true;
  }
  if (architecture.own_keys != nullptr && architecture.own_keys->own != nullptr) architecture.own_keys->own(h, out);
  return out;
}

Status write_model_directory(const BlockLoader& source, const ChangedModel& model, const std::string& directory, Progress& progress) {
  const models::Hparams h = model.hparams(source.hparams());
  Json new_config = changed_config(source.checkpoint().config_json, source.architecture(), h);
  if (model.result_dtype == "bf16") new_config["torch_dtype"] = "bfloat16";
  if (model.result_dtype == "f16") new_config["torch_dtype"] = "float16";
  if (model.result_dtype == "f32") new_config["torch_dtype"] = "float32";
  SHOEHORN_TRY(const auto parsed, models::parse_model_config(new_config));

  std::vector<int> source_layers;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    if (!model.layers[i].dropped) source_layers.push_back(static_cast<int>(i));
  }
  io::SafetensorsWriter writer;
  std::vector<Planned> plan;
  io::DType beside = io::DType::F32;
  const auto specs = models::tensor_specs(*parsed.architecture, parsed.hparams);
  for (const models::FileTensor& tensor : models::hf_tensors(specs)) {
    const models::TensorSpec& first = tensor.parts.front();
    const int from = first.layer < 0 ? -1 : source_layers[static_cast<size_t>(first.layer)];
    const io::CheckpointTensor* stored = source.find(from, origin(source, first.id()));
    // A new bias is stored as the weights beside it are; dtypes that cannot be written come out as F32.
    if (stored != nullptr) beside = io_dtype(torch_dtype(stored->dtype));
    const io::DType dtype = result_dtype(model, beside);
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(tensor.name, dtype, {tensor.shape.rbegin(), tensor.shape.rend()}));
    plan.push_back({tensor, from, dtype});
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin(directory));
  progress.begin("writing", writer.total_bytes());
  for (const Planned& planned : plan) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    const auto append = [&](const at::Tensor& values) -> Status {
      const at::Tensor tensor = values.to(at::kCPU).to(torch_dtype(planned.dtype)).contiguous();
      const size_t bytes = static_cast<size_t>(tensor.numel()) * tensor.element_size();
      SHOEHORN_RETURN_IF_ERROR(writer.append({static_cast<const std::byte*>(tensor.data_ptr()), bytes}));
      progress.advance(bytes);
      return {};
    };
    SHOEHORN_RETURN_IF_ERROR(planned.source_layer < 0 ? visit_global(source, model, planned, append)
                                                      : append(output_tensor(source, model, planned)));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  progress.end();
  SHOEHORN_RETURN_IF_ERROR(copy_files(source.checkpoint().directory, directory));
  return write_file(directory + "/config.json", new_config.dump(2) + "\n");
}

}  // namespace shoehorn::compress
