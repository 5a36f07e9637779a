#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <variant>

#include "tokenizer/bpe.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/special_tokens.h"
#include "tokenizer/spm.h"
#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

// Longer stretches of text are encoded in parts, which bounds the memory; only a token across the boundary is affected.
constexpr size_t kMaxStretch = size_t{256} << 20;

/// The bytes that a token stands for.
std::string piece_of(const Vocab& vocab, size_t id) {
  const std::string& text = vocab.tokens[id];
  switch (vocab.types[id]) {
    case TokenType::kByte:
      return std::string(1, static_cast<char>(*byte_token_value(text)));
    case TokenType::kUnused:
      return std::string();
    case TokenType::kNormal:
      break;
    default:
      return text;
  }
  if (vocab.model == Model::kBpe) return byte_level_decode(text).value_or(text);
  constexpr std::string_view kSpmSpace = "▁";
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const bool space = std::string_view(text).substr(pos, kSpmSpace.size()) == kSpmSpace;
    out += space ? ' ' : text[pos];
    pos += space ? kSpmSpace.size() : 1;
  }
  return out;
}

/// A cut at or before `size` that does not tear a UTF-8 sequence.
size_t cut_before(std::string_view text, size_t size) {
  if (size >= text.size()) return text.size();
  size_t cut = size;
  while (cut > size - 4 && (static_cast<uint8_t>(text[cut]) & 0xc0) == 0x80) --cut;
  return cut;
}

}  // namespace

struct Tokenizer::Impl {
  Vocab vocab;
  std::vector<std::string> pieces;
  SpecialTokens specials;
  std::variant<std::monostate, BpeModel, SpmModel> model;

  explicit Impl(Vocab v) : vocab(std::move(v)), specials(vocab) {}

  void encode_text(std::string_view text, bool space_prefix, std::vector<Token>& out) const {
    while (!text.empty()) {
      const std::string_view stretch = text.substr(0, cut_before(text, kMaxStretch));
      if (const auto* bpe = std::get_if<BpeModel>(&model)) bpe->encode(stretch, out);
      if (const auto* spm = std::get_if<SpmModel>(&model)) spm->encode(stretch, space_prefix, out);
      space_prefix = false;
      text.remove_prefix(stretch.size());
    }
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Expected<Tokenizer> Tokenizer::create(Vocab vocab) {
  SHOEHORN_RETURN_IF_ERROR(check_vocab(vocab));
  auto impl = std::make_unique<Impl>(std::move(vocab));
  impl->pieces.reserve(impl->vocab.tokens.size());
  for (size_t id = 0; id < impl->vocab.tokens.size(); ++id) impl->pieces.push_back(piece_of(impl->vocab, id));
  if (impl->vocab.model == Model::kBpe) {
    SHOEHORN_TRY(impl->model, BpeModel::create(impl->vocab, impl->pieces));
  } else {
    SHOEHORN_TRY(impl->model, SpmModel::create(impl->vocab));
  }
  return Tokenizer(std::move(impl));
}

std::vector<Token> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  const Vocab& v = impl_->vocab;
  std::vector<Token> out;
  if (options.add_special && v.add_bos && v.bos) out.push_back(*v.bos);
  // As in llama.cpp, the space that SentencePiece puts before a text comes again after each special token.
  bool space_prefix = v.add_space_prefix;
  for (const Fragment& fragment : impl_->specials.partition(text, options.parse_special)) {
    if (fragment.token >= 0) {
      out.push_back(fragment.token);
      space_prefix = v.add_space_prefix;
    } else {
      impl_->encode_text(fragment.text, space_prefix, out);
      space_prefix = false;
    }
  }
  if (options.add_special && v.add_eos && v.eos) out.push_back(*v.eos);
  return out;
}

std::string Tokenizer::piece(Token token, bool special) const {
  if (token < 0 || token >= n_vocab()) return std::string();
  const TokenType type = impl_->vocab.types[token];
  if (!special && (type == TokenType::kControl || type == TokenType::kUnknown)) return std::string();
  return impl_->pieces[token];
}

std::string Tokenizer::decode(const std::vector<Token>& tokens, bool special) const {
  bool strip = impl_->vocab.model == Model::kSpm && impl_->vocab.add_space_prefix;
  std::string out;
  for (const Token token : tokens) {
    const std::string text = piece(token, special);
    if (text.empty()) continue;
    out.append(text, strip && text[0] == ' ' ? 1 : 0);
    strip = false;
  }
  return out;
}

const Vocab& Tokenizer::vocab() const { return impl_->vocab; }

bool Tokenizer::is_eog(Token token) const {
  return std::binary_search(impl_->vocab.eog.begin(), impl_->vocab.eog.end(), token);
}

}  // namespace shoehorn::tokenizer
