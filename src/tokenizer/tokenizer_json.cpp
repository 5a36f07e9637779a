// tokenizer.json of Hugging Face's tokenizers: BPE over bytes (GPT-2, Llama 3) or over characters with byte fallback
// (the SentencePiece models as converted for that library).
#include <algorithm>
#include <unordered_map>

#include "tokenizer/pretokenizer.h"
#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

constexpr std::string_view kSpmSpace = "▁";

const Json& member(const Json& json, const char* key) {
  static const Json null;
  if (!json.is_object()) return null;
  const auto it = json.find(key);
  return it == json.end() ? null : *it;
}

std::string type_of(const Json& json) { return json_or(json, "type", std::string()); }

/// The members of a "Sequence", or the thing itself; nothing for null.
Expected<std::vector<const Json*>> steps_of(const Json& json, const char* list, const std::string& where) {
  std::vector<const Json*> out;
  if (json.is_null()) return out;
  if (!json.is_object()) return fail(ErrorCode::kInvalid, "{}: expected an object", where);
  if (type_of(json) != "Sequence") {
    out.push_back(&json);
    return out;
  }
  const Json& members = member(json, list);
  if (!members.is_array()) return fail(ErrorCode::kInvalid, "{}.{}: expected a list", where, list);
  for (const Json& step : members) {
    if (type_of(step) == "Sequence") {
      SHOEHORN_TRY(const auto nested, steps_of(step, list, where));
      out.insert(out.end(), nested.begin(), nested.end());
    } else {
      out.push_back(&step);
    }
  }
  return out;
}

/// A step as pretokenizers.inc writes it; "" for one that cuts nothing.
std::string describe_step(const Json& step) {
  const std::string type = type_of(step);
  if (type == "ByteLevel") {
    if (json_or(step, "add_prefix_space", false)) return "ByteLevel with add_prefix_space";
    return json_or(step, "use_regex", true) ? "ByteLevel" : "";
  }
  if (type == "Digits") return json_or(step, "individual_digits", false) ? "Digits" : "Digits in groups";
  if (type == "Split") {
    const Json& pattern = member(step, "pattern");
    const std::string regex = json_or(pattern, "Regex", std::string());
    const std::string text = regex.empty() ? "string " + json_or(pattern, "String", std::string()) : regex;
    const std::string behavior = json_or(step, "behavior", std::string());
    std::string out = "Split ";
    if (behavior != "Isolated") out += "(" + behavior + ") ";
    if (json_or(step, "invert", false)) out += "(inverted) ";
    return out + text;
  }
  return type.empty() ? "a step without type" : type;
}

/// What the steps of a tokenizer.json do of SentencePiece's own pre-processing.
struct SpmSteps {
  bool replaces_spaces = false;
  bool space_prefix = false;
  bool splits_at_spaces = false;

  /// False when the step is not one of them.
  bool pre_tokenize(const Json& step) {
    if (type_of(step) != "Metaspace") return false;
    replaces_spaces = true;
    const std::string scheme = json_or(step, "prepend_scheme", std::string());
    space_prefix = scheme.empty() ? json_or(step, "add_prefix_space", true) : scheme != "never";
    splits_at_spaces = json_or(step, "split", true);
    return true;
  }
  bool normalize(const Json& step) {
    const std::string type = type_of(step);
    if (type == "Replace" && json_or(step, "content", std::string()) == kSpmSpace) return replaces_spaces = true;
    if (type == "Prepend" && json_or(step, "prepend", std::string()) == kSpmSpace) return space_prefix = true;
    return type == "NFC" || type == "NFKC";
  }
};

Status read_tokens(const Json& model, bool byte_fallback, TokenizerFile& file) {
  const Json& vocab = member(model, "vocab");
  if (!vocab.is_object()) return fail(ErrorCode::kInvalid, "model.vocab: expected an object of token ids");
  const std::string unk = json_or(model, "unk_token", std::string());
  for (const auto& [text, value] : vocab.items()) {
    SHOEHORN_TRY(const uint64_t id, json_id(value, fmt::format("model.vocab[{:?}]", text)));
    TokenType type = TokenType::kNormal;
    if (byte_fallback && byte_token_value(text)) type = TokenType::kByte;
    if (!unk.empty() && text == unk) {
      type = TokenType::kUnknown;
      file.vocab.unk = static_cast<Token>(id);
    }
    SHOEHORN_RETURN_IF_ERROR(file.tokens.put(id, text, type));
  }
  return {};
}

/// Both forms of a merge, "a b" and ["a", "b"], as the first. A space inside a part is written as the byte-level
/// alphabet writes it.
Status read_merges(const Json& model, std::vector<std::string>& merges) {
  const Json& list = member(model, "merges");
  if (!list.is_array()) return fail(ErrorCode::kInvalid, "model.merges: expected a list");
  if (list.size() > (uint64_t{1} << 24)) {
    return fail(ErrorCode::kInvalid, "model.merges: {} merges, at most {} are supported", list.size(), 1 << 24);
  }
  merges.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const Json& merge = list[i];
    if (merge.is_string()) {
      merges.push_back(merge.get<std::string>());
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      std::string joined;
      for (const Json& part : merge) {
        if (!joined.empty()) joined += ' ';
        for (const char c : part.get_ref<const std::string&>())
          joined += c == ' ' ? std::string("Ġ") : std::string(1, c);
      }
      merges.push_back(std::move(joined));
    } else {
      return fail(ErrorCode::kInvalid, "model.merges[{}]: expected \"a b\" or [\"a\", \"b\"]", i);
    }
  }
  return {};
}

Status read_byte_level(const Json& json, const std::vector<const Json*>& pre_tokenizers, TokenizerFile& file) {
  SHOEHORN_TRY(const auto normalizers, steps_of(member(json, "normalizer"), "normalizers", "normalizer"));
  for (const Json* step : normalizers) {
    if (type_of(*step) != "NFC")
      return fail(ErrorCode::kUnsupported, "normalizer {} is not supported", describe_step(*step));
  }
  std::vector<std::string> steps;
  bool byte_level = false;
  for (const Json* step : pre_tokenizers) {
    byte_level = byte_level || type_of(*step) == "ByteLevel";
    std::string text = describe_step(*step);
    if (!text.empty()) steps.push_back(std::move(text));
  }
  const Json& model = member(json, "model");
  if (!byte_level) {
    steps.insert(steps.begin(), "no ByteLevel step");
  }
  SHOEHORN_TRY(file.vocab.pre, recognize_pretokenizer(steps, json_or(model, "ignore_merges", false)));
  SHOEHORN_RETURN_IF_ERROR(read_tokens(model, false, file));
  return read_merges(model, file.vocab.merges);
}

/// SentencePiece merges by the score of the resulting token; the rank of the first merge that makes a token is that
/// order.
Status read_sentencepiece_like(const Json& json, const SpmSteps& steps, TokenizerFile& file) {
  const Json& model = member(json, "model");
  file.vocab.model = Model::kSpm;
  file.vocab.add_space_prefix = steps.space_prefix;
  SHOEHORN_RETURN_IF_ERROR(read_tokens(model, json_or(model, "byte_fallback", false), file));
  if (steps.splits_at_spaces) {
    // SentencePiece merges across spaces, which comes to the same only while no token has one inside.
    for (const auto& [text, id] : member(model, "vocab").items()) {
      if (text.find(kSpmSpace, 1) != std::string::npos) {
        return fail(ErrorCode::kUnsupported, "Metaspace with split, and the token {:?} that crosses a space", text);
      }
    }
  }
  std::vector<std::string> merges;
  SHOEHORN_RETURN_IF_ERROR(read_merges(model, merges));
  std::unordered_map<std::string, uint32_t> first_rank;
  for (size_t i = 0; i < merges.size(); ++i) {
    std::string token = merges[i];
    const size_t space = token.find(' ', 1);
    if (space == std::string::npos) return fail(ErrorCode::kInvalid, "model.merges[{}]: {:?} is no pair", i, merges[i]);
    token.erase(space, 1);
    first_rank.emplace(std::move(token), static_cast<uint32_t>(i));
  }
  file.tokens.set_scores([&](const std::string& token) {
    const auto it = first_rank.find(token);
    return -static_cast<float>(it == first_rank.end() ? merges.size() : it->second);
  });
  return {};
}

Expected<TokenizerFile> read(const Json& json, uint64_t limit) {
  TokenizerFile file{
      .vocab = {}, .tokens = VocabBuilder(limit), .added = {}, .post_processor = member(json, "post_processor")};
  const Json& model = member(json, "model");
  if (!model.is_object()) return fail(ErrorCode::kInvalid, "model: expected an object");
  std::string type = type_of(model);
  // Older files leave the type out; only BPE has merges.
  if (type.empty() && model.contains("merges")) type = "BPE";
  if (type != "BPE") return fail(ErrorCode::kUnsupported, "model.type {:?} is not supported, only BPE", type);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!json_or(model, key, std::string()).empty())
      return fail(ErrorCode::kUnsupported, "model.{} is not supported", key);
  }
  SHOEHORN_TRY(const auto pre_tokenizers, steps_of(member(json, "pre_tokenizer"), "pretokenizers", "pre_tokenizer"));
  SHOEHORN_TRY(const auto normalizers, steps_of(member(json, "normalizer"), "normalizers", "normalizer"));
  SpmSteps spm;
  std::string other;  // a step that SentencePiece does not have
  for (const Json* step : pre_tokenizers) {
    if (!spm.pre_tokenize(*step)) other = describe_step(*step);
  }
  for (const Json* step : normalizers) {
    if (!spm.normalize(*step)) other = describe_step(*step);
  }
  if (spm.replaces_spaces) {
    if (!other.empty())
      return fail(ErrorCode::kUnsupported, "{} beside the replacement of spaces is not supported", other);
    SHOEHORN_RETURN_IF_ERROR(read_sentencepiece_like(json, spm, file));
  } else {
    SHOEHORN_RETURN_IF_ERROR(read_byte_level(json, pre_tokenizers, file));
  }
  SHOEHORN_TRY(file.added, parse_added_tokens(member(json, "added_tokens"), "added_tokens"));
  return file;
}

}  // namespace

Expected<TokenizerFile> read_tokenizer_json(const std::string& path, uint64_t limit) {
  SHOEHORN_TRY(const Json json, read_json(path));
  auto file = read(json, limit);
  if (!file) return annotate(file.error(), path);
  return file;
}

}  // namespace shoehorn::tokenizer
