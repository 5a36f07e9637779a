// Many texts through one layer of a model before the next, so that a model larger than the memory is read once for all of them.
#pragma once

#include <functional>
#include <vector>

#include "base/aligned.h"
#include "engine/session.h"

namespace shoehorn::eval {

/// Chunks of session.n_ctx() tokens, each in an empty context. The session's own position is neither read nor moved.
class LayerStream {
 public:
  /// Room for `n_chunks` at once. let_go: the model's pages are fetched before a layer and let go of behind it.
  LayerStream(engine::Session& session, size_t n_chunks, bool let_go);

  /// The largest layer's bytes in a model's file.
  static uint64_t largest_layer(const engine::Model& model);

  /// Takes the chunks, at most n_chunks, to behind the last layer. after(i) is called when chunk i is through a layer, and
  /// ends the pass by returning an error.
  Status run(const std::vector<std::vector<tokenizer::Token>>& chunks, const std::function<Status(size_t chunk)>& after);

  /// Chunk i's activations [n_ctx - position, n_embd] from a position on.
  float* x(size_t i, size_t position) {
    return x_.data() + (i * session_.n_ctx() + position) * session_.model().hparams().n_embd;
  }

  /// body(position, size, x) for chunk i's activations [size, n_embd], at most session.n_batch() tokens at a time.
  template <class Body>
  void for_each_batch(size_t i, const Body& body) {
    for (size_t position = 0; position < session_.n_ctx(); position += session_.n_batch()) {
      body(position, std::min(session_.n_batch(), session_.n_ctx() - position), x(i, position));
    }
  }

 private:
  engine::Session& session_;
  // The mapped tensors to fetch and let go of, by layer, and those of no layer; none where pages stay.
  std::vector<std::vector<const io::GgufTensor*>> layers_;
  std::vector<const io::GgufTensor*> global_;
  AlignedBuffer<float> x_;  // [n_chunks, n_ctx, n_embd]
};

}  // namespace shoehorn::eval
