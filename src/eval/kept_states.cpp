#include "eval/kept_states.h"

#include "base/hash.h"
#include "eval/model_identity.h"

namespace shoehorn::eval {

std::string StatesOf::name() const {
  const engine::Model& model = session->model();
  Fnv1a hash;
  hash.add(std::as_bytes(tokens));
  // Few tokens and many go through different kernels, and caches round keys and values.
  const Json json = {{"states", 1},
                     {"model", model_identity(model)},
                     {"tokens", {tokens.size(), hash.value()}},
                     {"positions", {first, n_per_chunk}},
                     {"compute",
                      {session->n_batch(), session->cache().types().describe(),
                       model.kernel_set().isa}}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<uint64_t> StatesOf::shape() const { return {n_chunks, n_per_chunk, session->model().hparams().n_embd}; }

std::optional<KeptStates> KeptStates::open(const std::string& path, const StatesOf& of) {
  auto file = MappedFile::open(path);
  if (!file) return std::nullopt;
  const auto tensors = io::read_safetensors(file->bytes(), path);
  if (!tensors || tensors->size() != 1) return std::nullopt;
  const io::StoredTensor& tensor = tensors->front();
  if (tensor.name != of.name() || tensor.dtype != io::DType::F32 || tensor.shape != of.shape()) return std::nullopt;
  if (reinterpret_cast<uintptr_t>(tensor.data.data()) % alignof(float) != 0) return std::nullopt;
  KeptStates out;
  out.data_ = reinterpret_cast<const float*>(tensor.data.data());
  out.chunk_floats_ = tensor.shape[1] * tensor.shape[2];
  out.file_ = std::move(*file);
  return out;
}

Status StatesWriter::begin(const std::string& path, const StatesOf& of) {
  chunk_floats_ = of.shape()[1] * of.shape()[2];
  SHOEHORN_RETURN_IF_ERROR(writer_.add_tensor(of.name(), io::DType::F32, of.shape()));
  return writer_.begin_file(path);
}

Status StatesWriter::append(const float* chunk) {
  return writer_.append(std::as_bytes(std::span(chunk, chunk_floats_)));
}

}  // namespace shoehorn::eval
