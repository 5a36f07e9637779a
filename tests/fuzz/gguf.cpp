// A model file: opened, its vocabulary read, and run where it is small.
#include "engine/session.h"
#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_gguf(std::string_view input) {
  static const Scratch scratch;
  const auto model = engine::Model::open(scratch.write("model.gguf", input));
  if (!model) return message_of(model);
  const models::Hparams& h = (*model)->hparams();
  constexpr uint64_t kMaxParameters = 1 << 20;
  if (models::count_parameters((*model)->architecture(), h) > kMaxParameters || h.n_layer > 8) return "";
  auto session = engine::Session::create(*model, {.n_ctx = 8, .n_batch = 4, .n_threads = 1});
  if (!session) return message_of(session);
  auto tokens = (*model)->tokenizer().encode("a Bc");
  if (tokens.size() > 6) tokens.resize(6);
  return message_of(session->eval(tokens));
}

}  // namespace shoehorn::fuzz
