#include "fit/tokenizer_check.h"

#include <algorithm>

#include "fit/plan.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::fit {
namespace {

Expected<tokenizer::Tokenizer> tokenizer_of(const std::string& path) {
  SHOEHORN_TRY(const ModelFacts facts, read_model_facts(path));
  if (!facts.has_tokenizer) return fail(ErrorCode::kNotFound, "{}: there is no tokenizer", path);
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_gguf(facts.tokenizer));
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
