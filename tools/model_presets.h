// The shapes that make_checkpoint knows, and what can be changed about them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "io/dtype.h"

namespace shoehorn::tools {

/// Whose special tokens and pre-tokenizer the synthetic tokenizer has.
enum class TokenizerStyle { kLlama3, kQwen2, kQwen3, kLlama2, kGemma };

struct ModelPlan {
  Json config;             ///< config.json; the single source of the shapes
  Json generation_config;  ///< generation_config.json
  TokenizerStyle tokenizer = TokenizerStyle::kLlama3;
  uint64_t n_special = 0;  ///< special tokens
  uint64_t n_padding = 0;  ///< embedding rows that no token uses, at the end
};

enum class Jagged {
  kNo,
  kMlp,   ///< narrower MLPs in the middle layers
  kFull,  ///< also fewer heads in the middlemost layer
};

struct Overrides {
  std::optional<uint64_t> n_layer, n_vocab, n_embd, n_ff, n_head, n_head_kv, head_dim, n_ctx;
  Jagged jagged = Jagged::kNo;
  std::optional<io::DType> dtype;
};

/// "llama-3.1-8b, llama-3.2-1b, ..."
std::string preset_names();

/// The plan of preset `name` with the overrides applied. Fails on an unknown name, and on shapes that no model can
/// have.
Expected<ModelPlan> make_plan(const std::string& name, const Overrides& overrides);

struct TensorPlan {
  std::string name;
  std::vector<uint64_t> shape;  ///< slowest first
  float mean, stddev;
};

/// Every tensor of the model in the order of the layers. Linear weights have a standard deviation of 1/sqrt(n_in),
/// those that write to the residual stream another 1/sqrt(2 n_layer), so that activations stay of order one. Fails
/// where the configuration is of no known model.
Expected<std::vector<TensorPlan>> tensor_plan(const Json& config);

/// Where the vocabulary begins with the special tokens.
inline bool specials_first(TokenizerStyle style) {
  return style == TokenizerStyle::kLlama2 || style == TokenizerStyle::kGemma;
}

}  // namespace shoehorn::tools
