#include "eval/prompt_tokens.h"

#include <algorithm>
#include <string>

namespace shoehorn::eval {

using tokenizer::Token;

std::vector<Token> prompt_tokens(const tokenizer::Tokenizer& tokenizer, std::string_view text) {
  const tokenizer::Vocab& vocab = tokenizer.vocab();
  std::vector<Token> ids;
  if (vocab.add_bos && vocab.bos) ids.push_back(*vocab.bos);
  const std::vector<Token> rest = tokenizer.encode(text, {.add_special = false, .parse_special = false});
  if (ids.empty() && rest.empty()) {
    const auto& start = vocab.bos ? vocab.bos : vocab.eos;
    ids.push_back(start.value_or(0));
  }
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

Continuation continuation_tokens(const tokenizer::Tokenizer& tokenizer, std::string_view context,
                                 std::string_view continuation) {
  const std::vector<Token> before = prompt_tokens(tokenizer, context);
  Continuation out;
  out.ids = prompt_tokens(tokenizer, std::string(context).append(continuation));
  // Without BOS an empty context is a token that the whole text does not begin with.
  if (context.empty() && !(out.ids[0] == before[0])) out.ids.insert(out.ids.begin(), before[0]);
  const auto differ = std::mismatch(before.begin(), before.end(), out.ids.begin(), out.ids.end());
  out.n_context = static_cast<size_t>(differ.first - before.begin());
  out.merged = out.n_context < before.size();
  // A first token that already holds part of the continuation has nothing to be predicted from.
  out.n_context = std::max<size_t>(1, std::min(out.n_context, out.ids.size() - 1));
  return out;
}

size_t cut_from_left(const tokenizer::Tokenizer& tokenizer, std::vector<Token>& ids, size_t n_max) {
  if (ids.size() <= n_max) return 0;
  const size_t n_cut = ids.size() - n_max;
  const tokenizer::Vocab& vocab = tokenizer.vocab();
  const size_t first = vocab.add_bos && vocab.bos && n_max > 0 && ids[0] == *vocab.bos ? 1 : 0;
  ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.begin() + static_cast<std::ptrdiff_t>(first + n_cut));
  return n_cut;
}

}  // namespace shoehorn::eval
