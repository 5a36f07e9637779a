#include "eval/layer_stream.h"

#include <algorithm>

#include "base/memory.h"

namespace shoehorn::eval {
namespace {

/// More would cost more when a pass is stopped than reading the model once more.
constexpr size_t kMaxChunksPerPass = 32;
/// Bytes of a file that Linux maps when one of them is touched (fault_around_bytes).
constexpr uint64_t kFaultAround = 64 << 10;

uint64_t largest_layer(const engine::Model& model) {
  std::vector<uint64_t> bytes(model.hparams().n_layer);
  const auto specs = models::tensor_specs(model.architecture(), model.hparams());
  for (const models::FileTensor& tensor : models::gguf_tensors(specs)) {
    if (const int layer = tensor.parts.front().layer; layer >= 0) bytes[static_cast<size_t>(layer)] += model.file().find(tensor.name)->data.size();
  }
  return *std::ranges::max_element(bytes);
}

/// What a session comes to take beside the model's pages.
uint64_t session_bytes(const engine::Session& session) {
  const models::Hparams& h = session.model().hparams();
  const uint64_t q = uint64_t{h.max_n_head()} * h.head_dim, widest = std::max<uint64_t>({h.n_embd, q, h.max_n_ff()});
  // With the packed input of a product, twice.
  const uint64_t experts = h.n_expert > 0 ? 2 * uint64_t{h.n_embd} + h.n_expert : 0;
  const uint64_t per_token = 2 * h.n_embd + 4 * q + h.max_n_ff() + 2 * widest + experts;
  return session.cache().bytes() + session.n_batch() * per_token * sizeof(float);
}

}  // namespace

Expected<StreamPlan> plan_stream(const StreamNeed& need) {
  const uint64_t resident = peak_resident_bytes(), ram = need.ram > 0 ? need.ram : available_memory() + resident;
  uint64_t files = 0, sessions = 0, chunk = 0, layer = 0, embedding = 0;
  for (const engine::Session* session : need.sessions) {
    const engine::Model& model = session->model();
    files += model.file().file_bytes();
    sessions += session_bytes(*session);
    chunk += uint64_t{need.chunk_size} * model.hparams().n_embd * sizeof(float);
    layer = std::max(layer, largest_layer(model));
    // Rows of the embedding bring their neighbours along, and are let go of before the first layer is read.
    const engine::Weight& rows = model.global()[models::Role::kTokenEmbd];
    embedding = std::max(embedding, std::min<uint64_t>(rows.n_rows * rows.row_bytes, need.chunk_size * kFaultAround));
  }
  StreamPlan plan;
  if (resident + files + sessions + need.extra_bytes + chunk <= ram) return plan;
  const uint64_t fixed = resident + sessions + need.extra_bytes + std::max(layer, embedding);
  if (fixed + chunk > ram) {
    return fail(ErrorCode::kTooLarge,
                "{} of this model takes {}, a layer of {} at a time; {} are allowed (a shorter -c or -b takes less)",
                need.what, format_bytes(fixed + chunk), format_bytes(layer), format_bytes(ram));
  }
  plan.layer_by_layer = true;
  plan.chunks_per_pass = std::min<uint64_t>({(ram - fixed) / chunk, need.n_chunks, kMaxChunksPerPass});
  return plan;
}

LayerStream::LayerStream(engine::Session& session, size_t chunk_size, size_t n_chunks, bool let_go)
    : session_(session), chunk_size_(chunk_size) {
  const engine::Model& model = session.model();
  x_.reserve(n_chunks * chunk_size * model.hparams().n_embd);
  layers_.resize(model.hparams().n_layer);
  if (!let_go) return;
  const auto specs = models::tensor_specs(model.architecture(), model.hparams());
  for (const models::FileTensor& stored : models::gguf_tensors(specs)) {
    const io::GgufTensor* tensor = model.file().find(stored.name);
    const int layer = stored.parts.front().layer;
    if (tensor->file != nullptr) (layer < 0 ? global_ : layers_[static_cast<size_t>(layer)]).push_back(tensor);
  }
}

Status LayerStream::run(const std::vector<std::vector<tokenizer::Token>>& chunks, size_t first_out,
                        const std::function<Status(size_t)>& after) {
  for (size_t i = 0; i < chunks.size(); ++i) {
    session_.embed(chunks[i], x(i, 0));
    for (const io::GgufTensor* tensor : global_) tensor->file->release(tensor->data);
  }
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (layer + 1 < layers_.size()) {
      for (const io::GgufTensor* tensor : layers_[layer + 1]) tensor->file->expect(tensor->data);
    }
    const size_t wanted_from = layer + 1 == layers_.size() ? first_out : 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
      for_each_batch(i, [&](size_t position, size_t size, float* activations) {
        const size_t unwanted = std::min(size, wanted_from > position ? wanted_from - position : 0);
        session_.run_layer(layer, {.x = activations, .n_past = position, .n = size, .n_out = size - unwanted});
      });
      SHOEHORN_RETURN_IF_ERROR(after(i));
    }
    for (const io::GgufTensor* tensor : layers_[layer]) tensor->file->release(tensor->data);
  }
  return {};
}

}  // namespace shoehorn::eval
