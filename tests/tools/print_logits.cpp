// What tests/interop compares with llama.cpp: the next-token logits after each of some tokens, as JSON.
//   print_logits MODEL.gguf ID...
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/json.h"
#include "engine/session.h"

int main(int argc, char** argv) {
  using namespace shoehorn;
  const auto give_up = [](const std::string& message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    return 1;
  };
  if (argc < 3) return give_up("usage: print_logits MODEL.gguf ID...");
  std::vector<tokenizer::Token> ids;
  for (int i = 2; i < argc; ++i) ids.push_back(std::atoi(argv[i]));
  const auto model = engine::Model::open(argv[1]);
  if (!model) return give_up(model.error().message);
  auto session = engine::Session::create(
      *model, {.n_ctx = ids.size(), .n_threads = 1, .key_type = quant::Type::F32, .value_type = quant::Type::F32});
  if (!session) return give_up(session.error().message);
  const auto logits = session->eval(ids, ids.size());
  if (!logits) return give_up(logits.error().message);
  Json rows = Json::array();
  const size_t n_vocab = logits->size() / ids.size();
  for (size_t t = 0; t < ids.size(); ++t)
    rows.push_back(std::vector<float>(logits->begin() + static_cast<std::ptrdiff_t>(t * n_vocab),
                                      logits->begin() + static_cast<std::ptrdiff_t>((t + 1) * n_vocab)));
  std::puts(rows.dump().c_str());
}
