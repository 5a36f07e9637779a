#include "convert/opened_checkpoint.h"

#include <filesystem>
#include <set>

#include "convert/object_config.h"

namespace shoehorn::convert {
namespace {

Status check_tensor(const models::TensorSpec& spec, const io::CheckpointTensor* stored, const std::string& directory) {
  if (stored == nullptr) return fail(ErrorCode::kInvalid, "{}: tensor {} is missing", directory, spec.hf_name);
  const std::vector<uint64_t> shape(stored->shape.rbegin(), stored->shape.rend());
  if (shape != spec.shape) {
    return fail(ErrorCode::kInvalid, "{}: tensor {} has shape [{}], the configuration calls for [{}]", directory, spec.hf_name,
                fmt::join(stored->shape, ", "), fmt::join(spec.shape.rbegin(), spec.shape.rend(), ", "));
  }
  if (!io::dtype_info(stored->dtype).floating) {
    return fail(ErrorCode::kInvalid, "{}: tensor {} has dtype {}, weights must be floating point", directory, spec.hf_name,
                io::dtype_info(stored->dtype).name);
  }
  return {};
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
  SHOEHORN_TRY(auto opened, io::Checkpoint::open(directory));
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
  const models::Hparams& h = out.config.hparams;
  if (out.config.sliding_window > 0 && out.config.sliding_window < h.n_ctx_train) {
    progress.note(fmt::format("the model was trained with a sliding window of {} tokens; past that it will differ",
                              out.config.sliding_window));
  }
  for (const std::string& dropped : out.weights->dropped()) progress.note("dropped " + dropped);

  std::set<std::string_view> used;
  for (const models::TensorSpec& spec : models::tensor_specs(*out.config.architecture, h)) {
    if (spec.hf_name.empty()) continue;
    const io::CheckpointTensor* stored = out.weights->find(spec.hf_name);
    SHOEHORN_RETURN_IF_ERROR(check_tensor(spec, stored, directory));
    used.insert(stored->name);
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

}  // namespace shoehorn::convert
