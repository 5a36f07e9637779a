#include "convert/opened_checkpoint.h"

#include <filesystem>
#include <set>

#include "convert/object_config.h"
#include "models/gguf_hparams.h"

namespace shoehorn::convert {
namespace {

constexpr uint64_t kMaxQuantizationBytes = uint64_t{1} << 20;

Status check_tensor(const models::FileTensor& expected, const io::CheckpointTensor* stored, const std::string& directory) {
  if (stored == nullptr) return fail(ErrorCode::kInvalid, "{}: tensor {} is missing", directory, expected.name);
  const std::vector<uint64_t> shape(stored->shape.rbegin(), stored->shape.rend());
  if (shape != expected.shape) {
    return fail(ErrorCode::kInvalid, "{}: tensor {} has shape [{}], the configuration calls for [{}]", directory, expected.name,
                fmt::join(stored->shape, ", "), fmt::join(expected.shape.rbegin(), expected.shape.rend(), ", "));
  }
  if (!io::dtype_info(stored->dtype).floating) {
    return fail(ErrorCode::kInvalid, "{}: tensor {} has dtype {}, weights must be floating point", directory, expected.name,
                io::dtype_info(stored->dtype).name);
  }
  return {};
}

/// What AutoGPTQ and AutoAWQ said in a file of its own before it came to be in config.json.
Status add_quantization(const std::string& directory, Json& config) {
  if (!config.is_object() || !config.value("quantization_config", Json()).is_null()) return {};
  for (const auto& [file, method] : {std::pair("/quantize_config.json", "gptq"), std::pair("/quant_config.json", "awq")}) {
    std::error_code ignored;
    if (!std::filesystem::exists(directory + file, ignored)) continue;
    SHOEHORN_TRY(Json quantization, read_json(directory + file, kMaxQuantizationBytes));
    if (!quantization.is_object()) return fail(ErrorCode::kInvalid, "{}{}: expected an object", directory, file);
    quantization["quant_method"] = method;
    config["quantization_config"] = std::move(quantization);
    return {};
  }
  return {};
}

void note_packed(const io::Packing& packing, const io::Checkpoint& weights, Progress& progress) {
  size_t n = 0, n_same = 0;
  const char* type = "";
  for (const io::CheckpointTensor& tensor : weights.tensors()) {
    if (tensor.packed == nullptr) continue;
    ++n;
    if (const auto same = tensor.packed->same_as()) {
      ++n_same;
      type = quant::format(*same).name;
    }
  }
  std::string in_gguf = packing.in_gguf;
  if (n_same > 0) {
    in_gguf = n_same == n ? fmt::format("{} has the very same numbers", type)
                          : fmt::format("of {} {} has the very same numbers, of the others no GGUF type has", n_same, type);
  }
  progress.note(fmt::format("{} matrices are quantized by {} already; {}", n, packing.method, in_gguf));
}

}  // namespace

Expected<OpenedCheckpoint> open_checkpoint(const std::string& directory, Progress& progress) {
  OpenedCheckpoint out;
  out.directory = directory;
  std::string config_path = directory + "/config.json";
  std::error_code ignored;
  const bool has_config = std::filesystem::exists(config_path, ignored);
  // Before the weights, which take longer to look through; without it they may do.
  if (has_config) {
    SHOEHORN_TRY(out.config_json, models::read_config_json(directory));
  }
  SHOEHORN_RETURN_IF_ERROR(add_quantization(directory, out.config_json));
  auto packing = io::packed_config(out.config_json);
  if (!packing) return annotate(packing.error(), config_path);
  SHOEHORN_TRY(auto opened, io::Checkpoint::open(directory, *packing));
  out.weights = std::make_shared<const io::Checkpoint>(std::move(opened));
  if (const auto& model = out.weights->model()) {
    if (!has_config) {
      config_path = directory + ": the pickled model's configuration";
      if (model->config.is_null()) return fail(ErrorCode::kNotFound, "{}: no config.json, and the pickled model has none either", directory);
      out.config_json = model->config;
    }
    auto config = object_config(*out.weights, std::move(out.config_json));
    if (!config) return annotate(config.error(), config_path);
    out.config_json = std::move(*config);
  } else if (!has_config) {
    return fail(ErrorCode::kNotFound, "{}: no config.json", directory);
  }
  auto config = models::parse_model_config(out.config_json);
  if (!config) return annotate(config.error(), config_path);
  out.config = std::move(*config);
  out.gain_offset = out.config.architecture->gain_offset;
  const models::Hparams& h = out.config.hparams;
  if (out.config.sliding_window > 0 && out.config.sliding_window < h.n_ctx_train) {
    progress.note(fmt::format("the model was trained with a sliding window of {} tokens; past that it will differ",
                              out.config.sliding_window));
  }
  for (const std::string& dropped : out.weights->dropped()) progress.note("dropped " + dropped);
  if (packing->packing != nullptr) note_packed(*packing->packing, *out.weights, progress);

  std::set<std::string_view> used;
  const auto specs = models::tensor_specs(*out.config.architecture, h);
  for (const models::FileTensor& expected : models::hf_tensors(specs)) {
    const io::CheckpointTensor* stored = out.weights->find(expected.name);
    SHOEHORN_RETURN_IF_ERROR(check_tensor(expected, stored, directory));
    used.insert(stored->name);
    for (const models::TensorSpec& part : expected.parts) {
      io::CheckpointTensor rows = *stored;
      if (part.rule->hf_matrix) rows.shape = {part.shape[0]};
      out.tensors.push_back({part, rows.rows(part.hf_row, part.n_rows(), part.hf_run, part.hf_stride)});
    }
  }
  for (const io::CheckpointTensor& tensor : out.weights->tensors()) {
    if (used.contains(tensor.name)) continue;
    if (h.tied_embeddings && tensor.name == "lm_head.weight") {
      progress.note("lm_head.weight is not used: tie_word_embeddings is set");
      continue;
    }
    return fail(ErrorCode::kUnsupported, "{}: tensor {} has no place in architecture {}", directory, tensor.name,
                out.config.hf_architecture);
  }
  return out;
}

Expected<OpenedCheckpoint> open_gguf_as_checkpoint(const std::string& path) {
  SHOEHORN_TRY(auto opened, io::GgufFile::open(path));
  const auto file = std::make_shared<io::GgufFile>(std::move(opened));
  SHOEHORN_TRY(const auto model, models::read_gguf_model(*file));
  OpenedCheckpoint out;
  out.directory = path;
  out.config.architecture = model.architecture;
  out.config.hparams = model.hparams;
  out.interleaved = model.architecture->rope == models::RopeType::kNorm;
  for (const models::TensorSpec& spec : models::tensor_specs(*model.architecture, model.hparams)) {
    const io::GgufTensor tensor = file->find(spec.gguf_name)->rows(spec.gguf_row, spec.n_rows());
    const quant::Format& format = quant::format(tensor.type);
    if (spec.rule->role == models::Role::kRopeFreqs) {
      out.rope_divisors.resize(tensor.n_cols());
      format.decode(tensor.data.data(), out.rope_divisors.data(), tensor.n_cols());
    }
    if (spec.hf_name.empty()) continue;
    const auto dtype = io::dtype_from_name(format.name);
    if (!dtype || format.quantized) {
      return fail(ErrorCode::kUnsupported, "{}: tensor {} is {}; what learns from text starts from F32, F16 or BF16 weights", path,
                  tensor.name, format.name);
    }
    out.tensors.push_back({spec, {spec.hf_name, *dtype, {tensor.shape.rbegin(), tensor.shape.rend()}, tensor.data, tensor.file}});
  }
  out.file = file;
  return out;
}

}  // namespace shoehorn::convert
