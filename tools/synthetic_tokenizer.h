// A tokenizer for models that were never trained: valid, of any size, able to encode any text.
#pragma once

#include "model_presets.h"

namespace shoehorn::tools {

struct TokenizerFiles {
  Json tokenizer;         ///< tokenizer.json
  Json tokenizer_config;  ///< tokenizer_config.json
};

/// A byte-level BPE tokenizer with the plan's special tokens and as many tokens as its embedding has rows, less the
/// unused ones. Beside the 256 bytes it has merges for common English words, then for short strings of letters.
TokenizerFiles make_tokenizer(const ModelPlan& plan);

}  // namespace shoehorn::tools
