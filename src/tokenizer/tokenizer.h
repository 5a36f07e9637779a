// Text <-> token ids.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/vocab.h"

namespace shoehorn::tokenizer {

struct EncodeOptions {
  bool add_special = true;    ///< add BOS/EOS when the vocabulary says so
  bool parse_special = true;  ///< "<|eot_id|>" in the text becomes that control token; false: plain text
};

/// Immutable after construction; encode and decode are thread-safe.
class Tokenizer {
 public:
  /// Fails when the vocabulary is inconsistent (unknown pre-tokenizer, merges that name no token, ...).
  static Expected<Tokenizer> create(Vocab vocab);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  std::vector<Token> encode(std::string_view text, EncodeOptions options = {}) const;

  /// The bytes of one token. Control tokens give "" unless `special`; ids out of range give "".
  /// A piece can be an incomplete UTF-8 sequence.
  std::string piece(Token token, bool special = false) const;
  /// The text of a whole sequence; for SPM with a space prefix, the leading space of the text is removed.
  std::string decode(const std::vector<Token>& tokens, bool special = false) const;

  const Vocab& vocab() const;
  int32_t n_vocab() const { return static_cast<int32_t>(vocab().tokens.size()); }
  bool is_eog(Token token) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoehorn::tokenizer
