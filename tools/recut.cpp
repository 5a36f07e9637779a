#include "recut.h"

#include <algorithm>

#include "base/output_file.h"
#include "beside.h"
#include "convert/opened_checkpoint.h"
#include "io/safetensors.h"

namespace shoehorn::tools {

Expected<uint64_t> recut_heads(const std::string& from, const std::string& to, uint32_t head_dim) {
  NoProgress progress;
  SHOEHORN_TRY(const auto checkpoint, convert::open_checkpoint(from, progress));
  const models::Hparams& before = checkpoint.config.hparams;
  const uint32_t n_q = before.layers[0].n_head * before.head_dim, n_kv = before.layers[0].n_head_kv * before.head_dim;
  if (!before.uniform() || n_q % head_dim != 0)
    return fail(ErrorCode::kInvalid, "{}: {} rows of q_proj in every layer are wanted, whole heads of {}", from, n_q, head_dim);
  Json config = checkpoint.config_json;
  config["head_dim"] = head_dim;
  config["num_attention_heads"] = n_q / head_dim;
  config["num_key_value_heads"] = std::max(1u, n_kv / head_dim);
  SHOEHORN_TRY(const auto after, models::parse_model_config(config));

  SHOEHORN_RETURN_IF_ERROR(make_empty_directory(to));
  io::SafetensorsWriter writer;
  const auto specs = models::tensor_specs(*after.architecture, after.hparams);
  const auto tensors = models::hf_tensors(specs);
  for (const models::FileTensor& wanted : tensors) {
    const io::DType dtype = checkpoint.weights->find(wanted.name)->dtype;
    SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(wanted.name, dtype, {wanted.shape.rbegin(), wanted.shape.rend()}));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.begin(to, 0));
  for (const models::FileTensor& wanted : tensors) {
    const io::CheckpointTensor& tensor = *checkpoint.weights->find(wanted.name);
    const uint64_t row = wanted.shape[0] * io::dtype_info(tensor.dtype).bytes, n_rows = wanted.shape.size() > 1 ? wanted.shape[1] : 1;
    for (uint64_t r = 0; r < n_rows; ++r)
      SHOEHORN_RETURN_IF_ERROR(writer.append(tensor.data.subspan(r * row % tensor.data.size(), row)));
  }
  SHOEHORN_RETURN_IF_ERROR(copy_other_files(from, to));
  SHOEHORN_RETURN_IF_ERROR(write_file(to + "/config.json", config.dump(2) + "\n"));
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  return models::count_parameters(*after.architecture, after.hparams);
}

}  // namespace shoehorn::tools
