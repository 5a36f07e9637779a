// Training examples: instructions in Alpaca's form, or plain text.
#pragma once

#include <string>
#include <vector>

#include "compress/torch.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::compress {

struct Example {
  std::vector<int64_t> ids;
  size_t first_target = 1;   ///< tokens before this one are only read, not learned
};

/// Examples of at most `cutoff` tokens. .json is an array and .jsonl has one object a line: "instruction", optional "input" and
/// "output" (Alpaca; the loss is on the response, which ends with EOS), or "text". Other files are plain text, cut into windows of
/// `cutoff` tokens; all of it is learned. Fails naming the entry or line that is broken, or when nothing is left to learn from.
/// Prompt: github.com/tatsu-lab/stanford_alpaca, README "Data Release".
Expected<std::vector<Example>> read_examples(const std::string& path, const tokenizer::Tokenizer& tokenizer, size_t cutoff);

/// The text before the response.
std::string alpaca_prompt(const std::string& instruction, const std::string& input);

struct Batch {
  at::Tensor ids;       ///< [n, n_tokens] int64; shorter examples are filled up at the end
  at::Tensor targets;   ///< [n, n_tokens] the token to predict after each, kIgnored where none counts
};

/// Examples side by side.
Batch make_batch(const std::vector<const Example*>& examples, int64_t filler);

}  // namespace shoehorn::compress
