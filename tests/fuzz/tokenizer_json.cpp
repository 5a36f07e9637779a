// tokenizer.json, and a text through what it describes.
#include "fuzz/target.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::fuzz {
namespace {

/// A text of what tokenizers treat differently.
constexpr std::string_view kText =
    "Hello  World'll 123456 \xC3\xA9\xE4\xB8\xAD\xE6\x96\x87\xF0\x9F\x98\x80\n\n\t<|eot|></s>\xFF!";

}  // namespace

std::string run_vocabulary(const Scratch& scratch) {
  auto vocab = tokenizer::vocab_from_directory(scratch.path(), 0);
  if (!vocab) return message_of(vocab);
  const auto made = tokenizer::Tokenizer::create(std::move(*vocab));
  if (!made) return message_of(made);
  made->decode(made->encode(kText), true);
  return "";
}

std::string run_tokenizer_json(std::string_view input) {
  static const Scratch scratch;
  scratch.write("tokenizer.json", input);
  return run_vocabulary(scratch);
}

}  // namespace shoehorn::fuzz
