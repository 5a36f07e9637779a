// Small random Hugging Face checkpoints of any architecture, and the plain forward pass that everything is compared with.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/checkpoint.h"

namespace shoehorn::test {

struct TinyCheckpoint {
  std::string directory;
  Json config;
  std::map<std::string, std::vector<float>> weights;   ///< by Hugging Face name, row-major
};

/// config.json of a uniform tiny llama: 3 layers, 64 wide, 4 heads of 16 in 2 KV groups, MLP 96, 300 tokens. Change keys as needed.
Json tiny_config();

/// The configuration with what another architecture has otherwise, by its Hugging Face name.
Json as_architecture(Json config, std::string_view name);

/// Writes config.json, random F32 weights of the shapes that it calls for and a byte-level tokenizer to a new directory.
TinyCheckpoint make_tiny_checkpoint(const Json& config, uint32_t seed = 1);

/// Writes a checkpoint as it is now, after a change of its weights, to a new directory.
std::string write_checkpoint(const TinyCheckpoint& checkpoint);

/// A byte-level BPE tokenizer.json of n_vocab tokens (at least 260) that encodes any text.
std::string tiny_tokenizer_json(int n_vocab);

/// Sums over tokens, [n_cols], by the matrix' Hugging Face name.
using InputSquares = std::map<std::string, std::vector<double>>;

/// Logits after each token, [n_tokens][n_vocab], straight from the formulas in double: Hugging Face weights, NEOX rope,
/// every score of every pair of positions. Adds the squares of what each matrix reads to `squares`.
std::vector<std::vector<double>> plain_forward(const TinyCheckpoint& checkpoint, const std::vector<int>& tokens,
                                               InputSquares* squares = nullptr);

}  // namespace shoehorn::test
