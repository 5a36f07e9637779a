// What a tokenizer is made of, wherever it came from (tokenizer.json, tokenizer.model, GGUF), and its way into GGUF metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/gguf.h"

namespace shoehorn::tokenizer {

using Token = int32_t;

enum class Model { kBpe, kSpm };   ///< GGUF tokenizer.ggml.model "gpt2" and "llama"

/// GGUF tokenizer.ggml.token_type.
enum class TokenType : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Vocab {
  Model model = Model::kBpe;
  std::string pre;                      ///< a name of pretokenizers.inc (BPE only)
  std::vector<std::string> tokens;      ///< raw text as GGUF stores it (byte-level alphabet for BPE, U+2581 for SPM)
  std::vector<TokenType> types;         ///< [n_vocab]
  std::vector<float> scores;            ///< [n_vocab] SPM only, else empty
  std::vector<std::string> merges;      ///< "left right" by rank, BPE only
  std::optional<Token> bos, eos, eot, unk, pad;
  std::vector<Token> eog;               ///< all tokens that end a generation, sorted (eos, eot, generation_config's list ...)
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = false;        ///< SPM: a space is put before the text
  std::string chat_template;            ///< empty when there is none
};

/// From a checkpoint directory: tokenizer.json, else tokenizer.model (SentencePiece or tiktoken text); with
/// tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json, chat_template.jinja, added_tokens.json.
/// n_vocab is the model's embedding rows: missing ids are filled with unused tokens "[PAD<id>]", a larger vocabulary is an error.
Expected<Vocab> vocab_from_directory(const std::string& directory, uint64_t n_vocab);

/// From GGUF tokenizer.* keys. Ids are checked against the vocabulary's size.
Expected<Vocab> vocab_from_gguf(const io::GgufMetadata& metadata);

/// Writes the tokenizer.* keys that llama.cpp reads.
void vocab_to_gguf(const Vocab& vocab, io::GgufMetadata& metadata);

}  // namespace shoehorn::tokenizer
