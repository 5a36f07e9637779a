// Pre-tokenizers: how a BPE vocabulary's text is cut into pieces before merging. Each is a hand-written equivalent of
// the regular expressions in the models' tokenizer.json; pretokenizers.inc is the table.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/unicode.h"

namespace shoehorn::tokenizer {

/// What a pattern finds at a position. matched: the match ends at `end`. Otherwise no match begins before `end`.
/// `end` is past the position in either case.
struct Found {
  bool matched;
  size_t end;
};

/// Tries a pattern at text[pos]; text ends at `end` (pos < end), and what follows is out of sight.
using Pattern = Found (*)(const Char* text, size_t pos, size_t end);

struct PreTokenizer {
  const char* name;                 ///< GGUF tokenizer.ggml.pre
  bool ignore_merges;               ///< a piece that is a token is taken whole
  bool add_bos;                     ///< when neither the file nor the configuration says
  std::span<const Pattern> passes;  ///< each cuts the pieces of the one before into matches and what lies between
};

/// The row of that name; nullptr when there is none.
const PreTokenizer* find_pretokenizer(std::string_view name);
std::span<const PreTokenizer> pretokenizers();

/// Cuts text into pieces: their end offsets in bytes, ascending, the last one text.size() (empty for an empty text).
/// Linear in the text. Text must be shorter than 4 GiB.
std::vector<uint32_t> split(const PreTokenizer& pretokenizer, std::string_view text);

/// How a tokenizer.json describes a pre-tokenizer: steps as "Split <regex>" (isolated matches), "Digits" (individual)
/// and "ByteLevel" (with its regex; without it, it cuts nothing and is left out).
struct HfPreTokenizer {
  const char* name;  ///< the row of pretokenizers.inc that does the same
  bool ignore_merges;
  std::span<const char* const> steps;
};
std::span<const HfPreTokenizer> hf_pretokenizers();

/// The name for these steps; kUnsupported, listing the steps, when no row is the same.
Expected<std::string> recognize_pretokenizer(const std::vector<std::string>& steps, bool ignore_merges);

}  // namespace shoehorn::tokenizer
