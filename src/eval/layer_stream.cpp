#include "eval/layer_stream.h"

#include <algorithm>

namespace shoehorn::eval {
namespace {

/// body(tensor) for a layer's tensors in the file, -1: those of no layer.
template <class Body>
void for_each_tensor(const engine::Model& model, int layer, const Body& body) {
  for (const models::TensorSpec& spec : models::tensor_specs(model.architecture(), model.hparams())) {
    if (spec.layer == layer) body(*model.file().find(spec.gguf_name));
  }
}

void expect(const engine::Model& model, size_t layer) {
  for_each_tensor(model, static_cast<int>(layer), [](const io::GgufTensor& tensor) {
    if (tensor.file != nullptr) tensor.file->expect(tensor.data);
  });
}

void release(const engine::Model& model, int layer) {
  for_each_tensor(model, layer, [](const io::GgufTensor& tensor) {
    if (tensor.file != nullptr) tensor.file->release(tensor.data);
  });
}

}  // namespace

LayerStream::LayerStream(engine::Session& session, size_t n_chunks, bool let_go) : session_(session), let_go_(let_go) {
  x_.reserve(n_chunks * session.n_ctx() * session.model().hparams().n_embd);
}

uint64_t LayerStream::largest_layer(const engine::Model& model) {
  std::vector<uint64_t> bytes(model.hparams().n_layer);
  for (const models::TensorSpec& spec : models::tensor_specs(model.architecture(), model.hparams())) {
    if (spec.layer >= 0) bytes[static_cast<size_t>(spec.layer)] += model.file().find(spec.gguf_name)->data.size();
  }
  return *std::ranges::max_element(bytes);
}

Status LayerStream::run(const std::vector<std::vector<tokenizer::Token>>& chunks, const std::function<Status(size_t)>& after) {
  const engine::Model& model = session_.model();
  for (size_t i = 0; i < chunks.size(); ++i) {
    session_.embed(chunks[i], x(i, 0));
    if (let_go_) release(model, -1);
  }
  for (size_t layer = 0; layer < model.hparams().n_layer; ++layer) {
    if (let_go_ && layer + 1 < model.hparams().n_layer) expect(model, layer + 1);
    for (size_t i = 0; i < chunks.size(); ++i) {
      for_each_batch(i, [&](size_t position, size_t size, float* activations) {
        session_.run_layer(layer, {.x = activations, .n_past = position, .n = size, .n_out = size});
      });
      SHOEHORN_RETURN_IF_ERROR(after(i));
    }
    if (let_go_) release(model, static_cast<int>(layer));
  }
  return {};
}

}  // namespace shoehorn::eval
