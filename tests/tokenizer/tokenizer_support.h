// Tokenizers for the tests, from the files under ../shared.
#pragma once

#include <string>
#include <vector>

#include "support/support.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::tokenizer::test {

using shoehorn::test::read_text;
using shoehorn::test::shared_path;
using shoehorn::test::temp_dir;
using shoehorn::test::write_text;

/// A fresh directory with these files: name in the directory, path under ../shared/data/tokenizers.
std::string directory_with(const std::vector<std::pair<std::string, std::string>>& files);

/// The tokenizers that the shared data can make.
struct Source {
  const char* name;
  Expected<Vocab> (*load)();
};
/// llama-spm, phi-3, gpt-2, deepseek-coder, mpt, gpt-neox (GGUF); llama2, llama3, llama4, mistral, qwen2, smollm2,
/// tinyllama and neox-hf (from checkpoint files).
const std::vector<Source>& sources();
Expected<Vocab> load(const std::string& source);

/// A tokenizer.json of byte-level BPE over a few letters, for tests that bend one part of it.
std::string small_tokenizer_json();

}  // namespace shoehorn::tokenizer::test
