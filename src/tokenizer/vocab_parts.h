// What the readers of the different tokenizer files share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/vocab.h"

namespace shoehorn::tokenizer {

/// A token that was added beside the trained vocabulary.
struct AddedToken {
  uint64_t id;
  std::string text;
  bool special = false;
  bool lstrip = false, rstrip = false;
};

/// A vocabulary under construction: tokens by id with holes.
class VocabBuilder {
 public:
  /// Ids must be below `limit` (the model's n_vocab, or kMaxVocab when that is not known).
  explicit VocabBuilder(uint64_t limit) : limit_(limit) {}

  /// Fails when the id is out of range or taken.
  Status put(uint64_t id, std::string text, TokenType type, float score = 0);
  /// Puts an added token over whatever is at its id: special ones (and those that look special) become control tokens,
  /// the others user-defined.
  Status add(const AddedToken& token);

  bool has(uint64_t id) const { return id < types_.size() && types_[id] != kHole; }
  size_t size() const { return tokens_.size(); }

  /// Gives every token put so far the score score_of(text).
  template <class ScoreOf>
  void set_scores(ScoreOf score_of) {
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] != kHole) scores_[id] = score_of(tokens_[id]);
    }
  }

  /// Fills the holes up to n_vocab (the highest id when 0) with unused tokens and moves everything into `vocab`.
  void finish(uint64_t n_vocab, Vocab& vocab);

 private:
  static constexpr TokenType kHole = TokenType{0};
  Status reserve(uint64_t id);

  uint64_t limit_;
  std::vector<std::string> tokens_;
  std::vector<TokenType> types_;
  std::vector<float> scores_;
  std::vector<Token> lstrip_, rstrip_;
};

/// What one tokenizer file says.
struct TokenizerFile {
  Vocab vocab;  ///< model, pre, merges, add_space_prefix, and the ids the file itself names
  VocabBuilder tokens;
  std::vector<AddedToken> added;
  Json post_processor;  ///< tokenizer.json only
};

Expected<TokenizerFile> read_tokenizer_json(const std::string& path, uint64_t limit);
Expected<TokenizerFile> read_sentencepiece(const std::string& path, std::string_view bytes, uint64_t limit);
Expected<TokenizerFile> read_tiktoken(const std::string& path, std::string_view text, uint64_t limit);
/// vocab.json and merges.txt; the pre-tokenizer comes from tokenizer_class (may be empty).
Expected<TokenizerFile> read_gpt2_files(const std::string& directory, const std::string& tokenizer_class,
                                        uint64_t limit);

/// tokenizer.json's "added_tokens" (a list with ids) or tokenizer_config.json's "added_tokens_decoder" (an object by
/// id).
Expected<std::vector<AddedToken>> parse_added_tokens(const Json& json, const std::string& where);

/// The byte of "<0xHH>"; nothing for other texts.
std::optional<uint8_t> byte_token_value(std::string_view text);

/// Completes eot and eog from the texts of the special tokens.
void derive_end_tokens(Vocab& vocab);

/// A JSON number as an id; kInvalid naming `where` when it is not a non-negative integer.
Expected<uint64_t> json_id(const Json& value, const std::string& where);

}  // namespace shoehorn::tokenizer
