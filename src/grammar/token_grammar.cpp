#include "grammar/token_grammar.h"

#include <algorithm>
#include <limits>

#include "grammar/gbnf.h"

namespace shoehorn::grammar {
namespace {

// A state takes a kilobyte, what it allows an eighth of the vocabulary.
constexpr size_t kManyStates = size_t{1} << 13, kManyMasks = 512;

}  // namespace

TokenTexts::TokenTexts(const tokenizer::Tokenizer& tokenizer) {
  const auto n_vocab = static_cast<tokenizer::Token>(tokenizer.n_vocab());
  std::vector<std::string> pieces;
  std::vector<tokenizer::Token> order;
  for (tokenizer::Token token = 0; token < n_vocab; ++token) {
    pieces.push_back(tokenizer.is_eog(token) ? "" : tokenizer.piece(token));
    if (tokenizer.is_eog(token)) ends_.push_back(token);
    if (!pieces.back().empty()) order.push_back(token);
  }
  const auto text = [&](tokenizer::Token token) -> const std::string& { return pieces[static_cast<size_t>(token)]; };
  std::sort(order.begin(), order.end(), [&](tokenizer::Token a, tokenizer::Token b) {
    const int difference = text(a).compare(text(b));
    return difference != 0 ? difference < 0 : a < b;
  });
  numbers_.assign(pieces.size(), order.size());
  for (const tokenizer::Token token : order) {
    const std::string& piece = text(token);
    uint32_t common = 0;
    if (!entries_.empty()) {
      const std::string_view before = bytes(entries_.back());
      common = static_cast<uint32_t>(std::mismatch(before.begin(), before.end(), piece.begin(), piece.end()).first -
                                     before.begin());
    }
    numbers_[static_cast<size_t>(token)] = entries_.size();
    entries_.push_back({token, static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(piece.size()), common});
    bytes_ += piece;
  }
}

Expected<std::shared_ptr<const TokenGrammar>> token_grammar(std::string_view gbnf,
                                                            std::shared_ptr<const TokenTexts> texts) {
  SHOEHORN_TRY(Grammar grammar, parse_gbnf(gbnf));
  auto out = std::make_shared<TokenGrammar>();
  out->grammar = std::make_shared<const Grammar>(std::move(grammar));
  out->texts = std::move(texts);
  const Automaton automaton(out->grammar);
  SHOEHORN_RETURN_IF_ERROR(automaton.status());
  if (automaton.start() == Automaton::kDead) return fail(ErrorCode::kInvalid, "grammar: no text can belong to it");
  return std::shared_ptr<const TokenGrammar>(std::move(out));
}

Constraint::Constraint(std::shared_ptr<const TokenGrammar> grammar)
    : grammar_(std::move(grammar)), automaton_(grammar_->grammar), state_(automaton_.start()) {}

const Constraint::Bits& Constraint::allowed() {
  if (automaton_.n_states() > kManyStates) {
    state_ = automaton_.forget_others(state_);
    known_.clear();
  }
  if (const auto known = known_.find(state_); known != known_.end()) return known->second;
  if (known_.size() >= kManyMasks) known_.clear();
  const TokenTexts& texts = *grammar_->texts;
  Bits bits((texts.entries().size() + 63) / 64, 0);
  // after[i]: the state after i bytes of the entry at hand; those that it has in common with the one before are there.
  std::vector<Automaton::State> after = {state_};
  for (size_t e = 0; e < texts.entries().size(); ++e) {
    const TokenTexts::Entry& entry = texts.entries()[e];
    if (entry.common < after.size() - 1) after.resize(entry.common + 1);
    // Shorter than what is in common: it was dead there, and is still.
    if (after.back() == Automaton::kDead && after.size() - 1 <= entry.common) continue;
    const std::string_view bytes = texts.bytes(entry);
    while (after.size() <= bytes.size() && after.back() != Automaton::kDead)
      after.push_back(automaton_.next(after.back(), static_cast<uint8_t>(bytes[after.size() - 1])));
    if (after.back() != Automaton::kDead) bits[e / 64] |= uint64_t{1} << (e % 64);
  }
  return known_.emplace(state_, std::move(bits)).first->second;
}

void Constraint::mask(std::span<float> logits) {
  const TokenTexts& texts = *grammar_->texts;
  const Bits& bits = allowed();
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const size_t none = texts.entries().size();
  const bool goes_on = std::ranges::any_of(bits, [](uint64_t word) { return word != 0; });
  for (size_t token = 0; token < logits.size(); ++token) {
    const size_t e = token < texts.n_vocab() ? texts.entry_of(static_cast<tokenizer::Token>(token)) : none;
    const bool may = e != none && (bits[e / 64] >> (e % 64) & 1) != 0;
    if (may) continue;
    const bool ends =
        (complete() || !goes_on) && std::ranges::binary_search(texts.ends(), static_cast<tokenizer::Token>(token));
    if (!ends) logits[token] = kNever;
  }
}

void Constraint::accept(tokenizer::Token token) {
  if (token < 0 || static_cast<size_t>(token) >= grammar_->texts->n_vocab()) return;
  const size_t e = grammar_->texts->entry_of(token);
  if (e == grammar_->texts->entries().size()) return;
  for (const char byte : grammar_->texts->bytes(grammar_->texts->entries()[e]))
    state_ = automaton_.next(state_, static_cast<uint8_t>(byte));
}

}  // namespace shoehorn::grammar
