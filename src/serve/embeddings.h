// Texts as vectors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/generate_request.h"
#include "serve/http_server.h"
#include "serve/worker.h"

namespace shoehorn::serve {

/// How the states of a text's tokens become one vector.
enum class Pooling { kMean, kLast };

struct EmbeddingRequest {
  std::vector<std::vector<tokenizer::Token>> inputs;
  engine::Adapters adapters;  ///< added to the weights
  bool base64 = false;  ///< vectors as text: their floats, little-endian, as OpenAI's clients ask for them
};

/// Reads a request for embeddings: "input" as read_completion() has prompts. kInvalid and kUnsupported name the field;
/// `n_embd` is the one number of "dimensions" that there is.
Expected<EmbeddingRequest> read_embedding(const RequestBody& body, const GenerateContext& context, size_t n_embd);

/// Answers with a vector [n_embd] of length 1 for each input.
void embed(Worker& worker, EmbeddingRequest request, Pooling pooling, const std::string& model_name,
           std::shared_ptr<HttpExchange> exchange);

}  // namespace shoehorn::serve
