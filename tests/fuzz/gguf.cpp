// A model file: opened, its vocabulary read, what was read written anew, and run where it is small. Beside it lies the
// second part of a model, for files that say they are the first.
#include <cstdlib>

#include "engine/session.h"
#include "fuzz/seeds.h"
#include "fuzz/target.h"
#include "models/gguf_hparams.h"
#include "tokenizer/vocab.h"

namespace shoehorn::fuzz {

std::string run_gguf(std::string_view input) {
  static const Scratch scratch;
  static const std::string second = scratch.write("model-00002-of-00002.gguf", split_model().second);
  const auto model = engine::Model::open(scratch.write("model-00001-of-00002.gguf", input));
  if (!model) return message_of(model);
  const models::Hparams& h = (*model)->hparams();
  const tokenizer::Vocab& vocab = (*model)->tokenizer().vocab();
  io::GgufMetadata again;
  models::write_gguf_hparams((*model)->architecture(), h, again);
  tokenizer::vocab_to_gguf(vocab, again);
  if (const auto read = tokenizer::vocab_from_gguf(again, "again"); !read || read->tokens != vocab.tokens) std::abort();
  constexpr uint64_t kMaxParameters = 1 << 20;
  if (models::count_parameters((*model)->architecture(), h) > kMaxParameters || h.n_layer > 8) return "";
  auto session = engine::Session::create(*model, {.n_ctx = 8, .n_batch = 4, .n_threads = 1});
  if (!session) return message_of(session);
  auto tokens = (*model)->tokenizer().encode("a Bc");
  if (tokens.size() > 6) tokens.resize(6);
  return message_of(session->eval(tokens));
}

}  // namespace shoehorn::fuzz
