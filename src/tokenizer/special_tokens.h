// Finding special tokens in text.
#pragma once

#include <bitset>
#include <string_view>
#include <vector>

#include "tokenizer/vocab.h"

namespace shoehorn::tokenizer {

/// A stretch of text: a token that was found, or plain text (token -1).
struct Fragment {
  Token token;
  std::string_view text;
};

/// The tokens that are recognized in text as they are written. User-defined ones always; control and unknown ones only
/// when special tokens are parsed. Views into the vocabulary given, which must outlive it.
class SpecialTokens {
 public:
  explicit SpecialTokens(const Vocab& vocab);

  /// Cuts text into fragments: at each position the longest token, from left to right. White space beside tokens that
  /// strip it is left out.
  std::vector<Fragment> partition(std::string_view text, bool parse_special) const;

 private:
  struct Entry {
    std::string_view text;
    Token token;
    bool always;  // user-defined
    bool lstrip, rstrip;
  };
  /// The longest entry that `text` starts with; nullptr when there is none.
  const Entry* longest_prefix(std::string_view text, bool parse_special) const;

  std::vector<Entry> entries_;                 // by text
  std::bitset<256> first_always_, first_any_;  // the first bytes of entries
};

}  // namespace shoehorn::tokenizer
