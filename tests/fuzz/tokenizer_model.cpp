// tokenizer.model: SentencePiece's protocol buffer, or tiktoken's list of ranks.
#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_vocabulary(const Scratch& scratch);

std::string run_tokenizer_model(std::string_view input) {
  static const Scratch scratch;
  scratch.write("tokenizer.model", input);
  return run_vocabulary(scratch);
}

}  // namespace shoehorn::fuzz
