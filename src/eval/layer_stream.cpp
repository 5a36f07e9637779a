#include "eval/layer_stream.h"

#include <algorithm>

namespace shoehorn::eval {

LayerStream::LayerStream(engine::Session& session, size_t n_chunks, bool let_go) : session_(session) {
  const engine::Model& model = session.model();
  x_.reserve(n_chunks * session.n_ctx() * model.hparams().n_embd);
  layers_.resize(model.hparams().n_layer);
  if (!let_go) return;
  for (const models::TensorSpec& spec : models::tensor_specs(model.architecture(), model.hparams())) {
    const io::GgufTensor* tensor = model.file().find(spec.gguf_name);
    if (tensor->file != nullptr) (spec.layer < 0 ? global_ : layers_[static_cast<size_t>(spec.layer)]).push_back(tensor);
  }
}

uint64_t LayerStream::largest_layer(const engine::Model& model) {
  std::vector<uint64_t> bytes(model.hparams().n_layer);
  for (const models::TensorSpec& spec : models::tensor_specs(model.architecture(), model.hparams())) {
    if (spec.layer >= 0) bytes[static_cast<size_t>(spec.layer)] += model.file().find(spec.gguf_name)->data.size();
  }
  return *std::ranges::max_element(bytes);
}

Status LayerStream::run(const std::vector<std::vector<tokenizer::Token>>& chunks, const std::function<Status(size_t)>& after) {
  for (size_t i = 0; i < chunks.size(); ++i) {
    session_.embed(chunks[i], x(i, 0));
    for (const io::GgufTensor* tensor : global_) tensor->file->release(tensor->data);
  }
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (layer + 1 < layers_.size()) {
      for (const io::GgufTensor* tensor : layers_[layer + 1]) tensor->file->expect(tensor->data);
    }
    for (size_t i = 0; i < chunks.size(); ++i) {
      for_each_batch(i, [&](size_t position, size_t size, float* activations) {
        session_.run_layer(layer, {.x = activations, .n_past = position, .n = size, .n_out = size});
      });
      SHOEHORN_RETURN_IF_ERROR(after(i));
    }
    for (const io::GgufTensor* tensor : layers_[layer]) tensor->file->release(tensor->data);
  }
  return {};
}

}  // namespace shoehorn::eval
