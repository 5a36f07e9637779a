// What a tokenizer is made of, wherever it came from (tokenizer.json, tokenizer.model, GGUF), and its way into GGUF
// metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/gguf.h"

namespace shoehorn::tokenizer {

using Token = int32_t;

enum class Model { kBpe, kSpm };  ///< GGUF tokenizer.ggml.model "gpt2" and "llama"

/// GGUF tokenizer.ggml.token_type.
enum class TokenType : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Vocab {
  Model model = Model::kBpe;
  std::string pre;                  ///< a name of pretokenizers.inc (BPE only)
  std::vector<std::string> tokens;  ///< raw text as GGUF stores it (byte-level alphabet for BPE, U+2581 for SPM)
  std::vector<TokenType> types;     ///< [n_vocab]
  std::vector<float> scores;        ///< [n_vocab] SPM only, else empty
  std::vector<std::string> merges;  ///< "left right" by rank, BPE only
  std::optional<Token> bos, eos, eot, unk, pad;
  std::vector<Token> eog;  ///< all tokens that end a generation, sorted (eos, eot, generation_config's list ...)
  std::vector<Token> lstrip, rstrip;  ///< special tokens that swallow the white space before / after them, sorted
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = false;  ///< SPM: a space is put before the text
  std::string chat_template;      ///< empty when there is none
};

/// The most tokens a vocabulary may have.
inline constexpr uint64_t kMaxVocab = uint64_t{1} << 22;
/// Of one token's text.
inline constexpr size_t kMaxTokenBytes = 65535;

/// From a checkpoint directory. The vocabulary comes from the first of these that is there: tokenizer.model
/// (SentencePiece BPE), tokenizer.json (BPE), tokenizer.model (tiktoken ranks), vocab.json with merges.txt.
/// added_tokens.json, tokenizer_config.json, special_tokens_map.json, config.json, generation_config.json and
/// chat_template.jinja or .json complete it; where they disagree the order is that of llama.cpp's convert_hf_to_gguf.
///
/// n_vocab is the model's embedding rows: missing ids are filled with unused tokens "[PAD<id>]", a larger vocabulary is
/// an error. 0 takes the vocabulary as large as the files make it.
///
/// Unicode normalization that a tokenizer.json (NFC) or a SentencePiece model asks for is not applied, as in llama.cpp:
/// GGUF cannot say it.
///
/// Fails naming the file, the key or token, the value and the limit; kUnsupported for other tokenizer models (unigram,
/// WordPiece) and unknown pre-tokenizers.
Expected<Vocab> vocab_from_directory(const std::string& directory, uint64_t n_vocab);

/// From GGUF tokenizer.* keys. Ids are checked against the vocabulary's size. Errors begin with `path`, where one is given.
Expected<Vocab> vocab_from_gguf(const io::GgufMetadata& metadata, std::string_view path = {});

/// Writes the tokenizer.* keys that llama.cpp reads. What they cannot say (further end-of-generation tokens, the
/// stripping of white space) goes into shoehorn.tokenizer.* keys, written only when there is something to say.
void vocab_to_gguf(const Vocab& vocab, io::GgufMetadata& metadata);

/// Checks what every vocabulary must satisfy: sizes that agree, ids in range, unique tokens, byte tokens that name a
/// byte, finite scores. The vocab_from_ functions and Tokenizer::create do it themselves.
Status check_vocab(const Vocab& vocab);

}  // namespace shoehorn::tokenizer
