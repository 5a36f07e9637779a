// tokenizer.* keys of GGUF <-> Vocab.
#include <algorithm>
#include <cctype>
#include <limits>

#include "tokenizer/pretokenizer.h"
#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

constexpr char kEogIds[] = "shoehorn.tokenizer.eog_token_ids";
constexpr char kLstripIds[] = "shoehorn.tokenizer.lstrip_token_ids";
constexpr char kRstripIds[] = "shoehorn.tokenizer.rstrip_token_ids";

Expected<std::optional<Token>> read_id(const io::GgufMetadata& metadata, const char* key, size_t n_tokens) {
  if (!metadata.contains(key)) return std::optional<Token>();
  const auto value = metadata.get_int(key);
  if (!value) return fail(ErrorCode::kInvalid, "{}: not an integer", key);
  // -1, also as it looks unsigned, says that there is none.
  if (*value == -1 || *value == std::numeric_limits<uint32_t>::max()) return std::optional<Token>();
  if (*value < 0 || static_cast<uint64_t>(*value) >= n_tokens) {
    return fail(ErrorCode::kInvalid, "{}: {} is out of range, the vocabulary has {} tokens", key, *value, n_tokens);
  }
  return std::optional<Token>(static_cast<Token>(*value));
}

Expected<std::vector<Token>> read_ids(const io::GgufMetadata& metadata, const char* key, size_t n_tokens) {
  std::vector<Token> out;
  if (!metadata.contains(key)) return out;
  const auto values = metadata.get_ints(key);
  if (!values) return fail(ErrorCode::kInvalid, "{}: not a list of integers", key);
  for (const int64_t value : *values) {
    if (value < 0 || static_cast<uint64_t>(value) >= n_tokens) {
      return fail(ErrorCode::kInvalid, "{}: {} is out of range, the vocabulary has {} tokens", key, value, n_tokens);
    }
    out.push_back(static_cast<Token>(value));
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// Files of Phi-3 do not say that its special tokens swallow the white space after them.
void strip_after_phi3_tokens(const io::GgufMetadata& metadata, Vocab& vocab) {
  const std::string* name = metadata.get_string("general.name");
  if (name == nullptr || metadata.contains(kRstripIds)) return;
  std::string lower = *name;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (lower.find("phi-3") == std::string::npos && lower.find("phi3") == std::string::npos) return;
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const TokenType type = vocab.types[i];
    if (type != TokenType::kControl && type != TokenType::kUserDefined && type != TokenType::kUnknown) continue;
    const std::string& text = vocab.tokens[i];
    if (text == "<unk>" || text == "<s>" || text == "<|endoftext|>") continue;
    vocab.rstrip.push_back(static_cast<Token>(i));
  }
}

io::GgufArray int_array(const std::vector<Token>& ids) { return std::vector<int32_t>(ids.begin(), ids.end()); }

Expected<Vocab> read_keys(const io::GgufMetadata& metadata) {
  const std::string* model = metadata.get_string("tokenizer.ggml.model");
  if (model == nullptr) return fail(ErrorCode::kNotFound, "tokenizer.ggml.model: no such text key");
  Vocab vocab;
  if (*model == "gpt2") {
    vocab.model = Model::kBpe;
  } else if (*model == "llama") {
    vocab.model = Model::kSpm;
  } else {
    return fail(ErrorCode::kUnsupported, "tokenizer.ggml.model {:?} is not supported, only gpt2 and llama", *model);
  }
  const auto* tokens = metadata.get_strings("tokenizer.ggml.tokens");
  if (tokens == nullptr) return fail(ErrorCode::kNotFound, "tokenizer.ggml.tokens: no such list of texts");
  const size_t n = tokens->size();
  if (n > kMaxVocab)
    return fail(ErrorCode::kInvalid, "tokenizer.ggml.tokens: {} tokens, at most {} are supported", n, kMaxVocab);
  vocab.tokens = *tokens;

  vocab.types.assign(n, TokenType::kNormal);
  if (metadata.contains("tokenizer.ggml.token_type")) {
    const auto types = metadata.get_ints("tokenizer.ggml.token_type");
    if (!types || types->size() != n) {
      return fail(ErrorCode::kInvalid, "tokenizer.ggml.token_type: not a list of {} integers, one per token", n);
    }
    for (size_t i = 0; i < n; ++i) {
      if ((*types)[i] < 1 || (*types)[i] > 6) {
        return fail(ErrorCode::kInvalid, "tokenizer.ggml.token_type[{}]: {} is no token type", i, (*types)[i]);
      }
      vocab.types[i] = static_cast<TokenType>((*types)[i]);
    }
  }

  if (vocab.model == Model::kBpe) {
    const std::string* pre = metadata.get_string("tokenizer.ggml.pre");
    vocab.pre = pre == nullptr || pre->empty() ? "default" : *pre;
    const PreTokenizer* row = find_pretokenizer(vocab.pre);
    if (row == nullptr) return fail(ErrorCode::kUnsupported, "tokenizer.ggml.pre {:?} is not supported", vocab.pre);
    const auto* merges = metadata.get_strings("tokenizer.ggml.merges");
    if (merges == nullptr) return fail(ErrorCode::kNotFound, "tokenizer.ggml.merges: no such list of texts");
    vocab.merges = *merges;
    vocab.add_bos = row->add_bos;
  } else {
    vocab.scores.assign(n, 0.0f);
    if (metadata.contains("tokenizer.ggml.scores")) {
      auto scores = metadata.get_floats("tokenizer.ggml.scores");
      if (!scores || scores->size() != n) {
        return fail(ErrorCode::kInvalid, "tokenizer.ggml.scores: not a list of {} floats, one per token", n);
      }
      vocab.scores = std::move(*scores);
    }
    vocab.add_bos = true;
    vocab.add_space_prefix = metadata.get_bool("tokenizer.ggml.add_space_prefix").value_or(true);
    // The ids of SentencePiece's defaults, where the file does not say otherwise.
    if (n > 2) {
      vocab.unk = 0;
      vocab.bos = 1;
      vocab.eos = 2;
    }
  }

  std::optional<Token> eom;
  const std::pair<const char*, std::optional<Token>*> specials[] = {
      {"tokenizer.ggml.bos_token_id", &vocab.bos},     {"tokenizer.ggml.eos_token_id", &vocab.eos},
      {"tokenizer.ggml.eot_token_id", &vocab.eot},     {"tokenizer.ggml.eom_token_id", &eom},
      {"tokenizer.ggml.unknown_token_id", &vocab.unk}, {"tokenizer.ggml.padding_token_id", &vocab.pad}};
  for (const auto& [key, target] : specials) {
    SHOEHORN_TRY(const auto id, read_id(metadata, key, n));
    if (id || metadata.contains(key)) *target = id;
  }
  if (eom) vocab.eog.push_back(*eom);
  SHOEHORN_TRY(const auto eog, read_ids(metadata, kEogIds, n));
  vocab.eog.insert(vocab.eog.end(), eog.begin(), eog.end());
  SHOEHORN_TRY(vocab.lstrip, read_ids(metadata, kLstripIds, n));
  SHOEHORN_TRY(vocab.rstrip, read_ids(metadata, kRstripIds, n));
  strip_after_phi3_tokens(metadata, vocab);

  vocab.add_bos = metadata.get_bool("tokenizer.ggml.add_bos_token").value_or(vocab.add_bos) && vocab.bos;
  vocab.add_eos = metadata.get_bool("tokenizer.ggml.add_eos_token").value_or(false) && vocab.eos;
  if (const std::string* text = metadata.get_string("tokenizer.chat_template")) vocab.chat_template = *text;
  derive_end_tokens(vocab);
  SHOEHORN_RETURN_IF_ERROR(check_vocab(vocab));
  return vocab;
}

}  // namespace

Expected<Vocab> vocab_from_gguf(const io::GgufMetadata& metadata, std::string_view path) {
  auto vocab = read_keys(metadata);
  if (!vocab && !path.empty()) return annotate(vocab.error(), path);
  return vocab;
}

void vocab_to_gguf(const Vocab& vocab, io::GgufMetadata& metadata) {
  const bool bpe = vocab.model == Model::kBpe;
  metadata.set("tokenizer.ggml.model", std::string(bpe ? "gpt2" : "llama"));
  metadata.set("tokenizer.ggml.pre", bpe ? vocab.pre : std::string("default"));
  metadata.set("tokenizer.ggml.tokens", io::GgufArray(vocab.tokens));
  if (!bpe) metadata.set("tokenizer.ggml.scores", io::GgufArray(vocab.scores));
  std::vector<int32_t> types;
  types.reserve(vocab.types.size());
  for (const TokenType type : vocab.types) types.push_back(static_cast<int32_t>(type));
  metadata.set("tokenizer.ggml.token_type", io::GgufArray(std::move(types)));
  if (bpe) metadata.set("tokenizer.ggml.merges", io::GgufArray(vocab.merges));
  const std::pair<const char*, std::optional<Token>> specials[] = {{"tokenizer.ggml.bos_token_id", vocab.bos},
                                                                   {"tokenizer.ggml.eos_token_id", vocab.eos},
                                                                   {"tokenizer.ggml.eot_token_id", vocab.eot},
                                                                   {"tokenizer.ggml.unknown_token_id", vocab.unk},
                                                                   {"tokenizer.ggml.padding_token_id", vocab.pad}};
  for (const auto& [key, id] : specials) {
    if (id) metadata.set(key, static_cast<uint32_t>(*id));
  }
  metadata.set("tokenizer.ggml.add_bos_token", vocab.add_bos);
  if (vocab.add_eos || !bpe) metadata.set("tokenizer.ggml.add_eos_token", vocab.add_eos);
  if (!bpe) metadata.set("tokenizer.ggml.add_space_prefix", vocab.add_space_prefix);
  if (!vocab.chat_template.empty()) metadata.set("tokenizer.chat_template", vocab.chat_template);

  Vocab plain = vocab;
  plain.eog.clear();
  derive_end_tokens(plain);
  if (plain.eog != vocab.eog) metadata.set(kEogIds, int_array(vocab.eog));
  if (!vocab.lstrip.empty()) metadata.set(kLstripIds, int_array(vocab.lstrip));
  if (!vocab.rstrip.empty()) metadata.set(kRstripIds, int_array(vocab.rstrip));
}

}  // namespace shoehorn::tokenizer
