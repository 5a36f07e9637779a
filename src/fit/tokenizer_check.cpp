#include "fit/tokenizer_check.h"

#include <algorithm>
#include <filesystem>

#include "models/hf_config.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::fit {
namespace {

/// A checkpoint's comes from its own files, not by way of GGUF keys: those are what is checked.
Expected<tokenizer::Tokenizer> tokenizer_of(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    SHOEHORN_TRY(const auto config, models::read_model_config(path));
    SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_directory(path, config.hparams.n_vocab));
    return tokenizer::Tokenizer::create(std::move(vocab));
  }
  SHOEHORN_TRY(const auto file, io::GgufFile::open(path));
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_gguf(file.metadata(), path));
  return tokenizer::Tokenizer::create(std::move(vocab));
}

}  // namespace

Expected<TokenizerCheck> check_tokenizer(const std::string& model, const std::string& gguf, std::string_view text) {
  SHOEHORN_TRY(const auto theirs, tokenizer_of(model));
  SHOEHORN_TRY(const auto ours, tokenizer_of(gguf));
  const auto expected = theirs.encode(text, {}), found = ours.encode(text, {});
  TokenizerCheck out;
  out.tokens = expected.size();
  out.same = expected == found;
  if (!out.same) out.differs_at = static_cast<uint64_t>(std::ranges::mismatch(expected, found).in1 - expected.begin());
  out.same_template = theirs.vocab().chat_template == ours.vocab().chat_template;
  return out;
}

}  // namespace shoehorn::fit
