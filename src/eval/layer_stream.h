// Many texts through one layer of a model before the next, so that a model larger than the memory is read once for all
// of them.
#pragma once

#include <functional>
#include <vector>

#include "base/aligned.h"
#include "engine/session.h"

namespace shoehorn::eval {

/// How chunks are taken through models that may be larger than the memory.
struct StreamPlan {
  size_t chunks_per_pass = 1;   ///< that go through a layer together
  bool layer_by_layer = false;  ///< pages are let go of behind a layer
};

/// What goes through layers, and what there is room for.
struct StreamNeed {
  const char* what;                              ///< is made of it, for the error: "perplexity"
  std::vector<const engine::Session*> sessions;  ///< of the models that chunks go through, one model after the other
  size_t chunk_size = 0, n_chunks = 0;
  uint64_t extra_bytes = 0;  ///< beside files, activations and what sessions come to take
  uint64_t ram = 0;          ///< bytes that the process may be resident in, mapped files included; 0: what is available
};

/// One chunk at a time while the files and all else fit. Otherwise layer by layer, as many chunks together as there is
/// room for. Fails with kTooLarge and the numbers when there is none for a layer and a chunk.
Expected<StreamPlan> plan_stream(const StreamNeed& need);

/// Chunks of `chunk_size` tokens, each in an empty context. The session's own position is neither read nor moved.
class LayerStream {
 public:
  /// Room for `n_chunks` at once; the session has at least chunk_size positions. let_go: the model's pages are fetched
  /// before a layer and let go of behind it.
  LayerStream(engine::Session& session, size_t chunk_size, size_t n_chunks, bool let_go);

  /// Takes the chunks, at most n_chunks, to behind the last layer; there, activations before `first_out` are left
  /// unfinished. after(i) is called when chunk i is through a layer, and ends the pass by returning an error.
  Status run(const std::vector<std::vector<tokenizer::Token>>& chunks, size_t first_out,
             const std::function<Status(size_t chunk)>& after);

  /// Chunk i's activations [chunk_size - position, n_embd] from a position on.
  float* x(size_t i, size_t position) {
    return x_.data() + (i * chunk_size_ + position) * session_.model().hparams().n_embd;
  }

  /// body(position, size, x) for chunk i's activations [size, n_embd], at most session.n_batch() tokens at a time.
  template <class Body>
  void for_each_batch(size_t i, const Body& body) {
    for (size_t position = 0; position < chunk_size_; position += session_.n_batch()) {
      body(position, std::min(session_.n_batch(), chunk_size_ - position), x(i, position));
    }
  }

 private:
  engine::Session& session_;
  const size_t chunk_size_;
  // The mapped tensors to fetch and let go of, by layer, and those of no layer; none where pages stay.
  std::vector<std::vector<const io::GgufTensor*>> layers_;
  std::vector<const io::GgufTensor*> global_;
  AlignedBuffer<float> x_;  // [n_chunks, chunk_size, n_embd]
};

}  // namespace shoehorn::eval
