#include "convert/opened_checkpoint.h"

#include <set>

namespace shoehorn::convert {
namespace {

Status check_tensor(const models::TensorSpec& spec, const io::CheckpointTensor* stored, const std::string& directory) {
  if (stored == nullptr) return fail(ErrorCode::kInvalid, "{}: tensor {} is missing", directory, spec.hf_name);
  const std::vector<uint64_t> shape(stored->shape.rbegin(), stored->shape.rend());
  if (shape != spec.shape) {
    return fail(ErrorCode::kInvalid, "{}: tensor {} has shape [{}], config.json calls for [{}]", directory, spec.hf_name,
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
  SHOEHORN_TRY(out.config, models::read_model_config(directory));
  const models::Hparams& h = out.config.hparams;
  if (out.config.sliding_window > 0 && out.config.sliding_window < h.n_ctx_train) {
    progress.note(fmt::format("the model was trained with a sliding window of {} tokens; past that it will differ",
                              out.config.sliding_window));
  }
  SHOEHORN_TRY(auto opened, io::Checkpoint::open(directory));
  out.weights = std::make_shared<const io::Checkpoint>(std::move(opened));
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
