// A checkpoint directory's tokenizer files -> Vocab.
#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "base/output_file.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

/// An object from a JSON file; null when there is no such file.
Expected<Json> read_optional(const std::string& path) {
  if (!exists(path)) return Json();
  SHOEHORN_TRY(Json json, read_json(path));
  if (!json.is_object()) return fail(ErrorCode::kInvalid, "{}: expected an object", path);
  return json;
}

/// The configuration files around the tokenizer.
struct Configuration {
  std::string directory;
  Json tokenizer, special_tokens_map, generation, model, added_tokens;

  static Expected<Configuration> read(const std::string& directory) {
    Configuration c;
    c.directory = directory;
    SHOEHORN_TRY(c.tokenizer, read_optional(directory + "/tokenizer_config.json"));
    SHOEHORN_TRY(c.special_tokens_map, read_optional(directory + "/special_tokens_map.json"));
    SHOEHORN_TRY(c.generation, read_optional(directory + "/generation_config.json"));
    SHOEHORN_TRY(c.model, read_optional(directory + "/config.json"));
    SHOEHORN_TRY(c.added_tokens, read_optional(directory + "/added_tokens.json"));
    return c;
  }
};

/// The text of a special token, which is a string or an object with "content"; "" when it is not given.
Expected<std::string> special_text(const Json& config, const std::string& key, const std::string& file) {
  if (!config.is_object() || !config.contains(key)) return std::string();
  const Json& value = config[key];
  if (value.is_null()) return std::string();
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content") && value["content"].is_string())
    return value["content"].get<std::string>();
  return fail(ErrorCode::kInvalid, "{}: {}: expected a text", file, key);
}

/// More tokens than the files in a directory can list: each takes some bytes. What a configuration says beyond that would be memory for nothing,
/// unless it is little.
uint64_t most_tokens(const std::string& directory) {
  constexpr uint64_t kLittle = 65536;
  uint64_t bytes = 0;
  for (const char* name : {"/tokenizer.json", "/tokenizer.model", "/vocab.json", "/added_tokens.json", "/tokenizer_config.json"}) {
    std::error_code none;
    const auto size = std::filesystem::file_size(directory + name, none);
    if (!none) bytes += size;
  }
  return std::clamp<uint64_t>(bytes, kLittle, kMaxVocab);
}

Expected<TokenizerFile> read_tokenizer_file(const Configuration& config, uint64_t limit) {
  const std::string& directory = config.directory;
  const std::string json_path = directory + "/tokenizer.json";
  const std::string model_path = directory + "/tokenizer.model";
  const bool has_json = exists(json_path);
  if (exists(model_path)) {
    SHOEHORN_TRY(const std::string bytes, read_file(model_path, kMaxFileBytes));
    // A ModelProto begins with the tag of its first piece, a tiktoken file with base64.
    const bool protobuf = bytes.starts_with('\n');
    if (protobuf) {
      auto file = read_sentencepiece(model_path, bytes, limit);
      if (file || file.error().code != ErrorCode::kUnsupported || !has_json) return file;
    } else if (!has_json) {
      return read_tiktoken(model_path, bytes, limit);
    }
  }
  if (has_json) return read_tokenizer_json(json_path, limit);
  if (exists(directory + "/vocab.json")) {
    return read_gpt2_files(directory, json_or(config.tokenizer, "tokenizer_class", std::string()), limit);
  }
  return fail(ErrorCode::kNotFound, "{}: no tokenizer.json, tokenizer.model or vocab.json", directory);
}

Status add_tokens(const Configuration& config, TokenizerFile& file) {
  std::string where = config.directory + "/added_tokens.json";
  if (config.added_tokens.is_object()) {
    for (const auto& [text, value] : config.added_tokens.items()) {
      SHOEHORN_TRY(const uint64_t id, json_id(value, fmt::format("{}: {:?}", where, text)));
      if (auto status = file.tokens.add({.id = id, .text = text}); !status) return annotate(status.error(), where);
    }
  }
  for (const AddedToken& token : file.added) {
    if (auto status = file.tokens.add(token); !status)
      return annotate(status.error(), config.directory + ": added tokens");
  }
  where = config.directory + "/tokenizer_config.json: added_tokens_decoder";
  if (config.tokenizer.contains("added_tokens_decoder")) {
    SHOEHORN_TRY(const auto decoder, parse_added_tokens(config.tokenizer["added_tokens_decoder"], where));
    for (const AddedToken& token : decoder) {
      if (auto status = file.tokens.add(token); !status) return annotate(status.error(), where);
    }
  }
  return {};
}

/// An id or a list of them under `key`; -1 and null, which say "none", are left out. Ids must be below n_tokens.
Expected<std::vector<Token>> ids_of(const Json& config, const std::string& key, size_t n_tokens,
                                    const std::string& file) {
  std::vector<Token> out;
  if (!config.is_object() || !config.contains(key)) return out;
  const Json& value = config[key];
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& entry : list) {
    if (entry.is_null() || (entry.is_number_integer() && !entry.is_number_unsigned())) continue;
    SHOEHORN_TRY(const uint64_t id, json_id(entry, file + ": " + key));
    if (id >= n_tokens)
      return fail(ErrorCode::kInvalid, "{}: {} is {}, the vocabulary has {} tokens", file, key, id, n_tokens);
    out.push_back(static_cast<Token>(id));
  }
  return out;
}

/// bos, eos, unk, pad: by the texts in tokenizer_config.json, special_tokens_map.json, then by the ids in config.json
/// and generation_config.json (a list's first), then by what the tokenizer file itself says.
Status find_special_tokens(const Configuration& config, Vocab& vocab) {
  std::unordered_map<std::string_view, Token> ids;
  ids.reserve(vocab.tokens.size());
  for (size_t i = 0; i < vocab.tokens.size(); ++i) ids.emplace(vocab.tokens[i], static_cast<Token>(i));
  const std::string config_path = config.directory + "/config.json";
  const std::string generation_path = config.directory + "/generation_config.json";
  const Json& text_config = config.model.contains("text_config") ? config.model["text_config"] : config.model;
  const std::pair<const char*, std::optional<Token>*> specials[] = {
      {"bos_token", &vocab.bos}, {"eos_token", &vocab.eos}, {"unk_token", &vocab.unk}, {"pad_token", &vocab.pad}};
  for (const auto& [name, target] : specials) {
    const std::string key = name;
    std::optional<Token> found;
    for (const auto& [json, file] : {std::pair{&config.tokenizer, "tokenizer_config.json"},
                                     {&config.special_tokens_map, "special_tokens_map.json"}}) {
      if (found) break;
      SHOEHORN_TRY(const std::string text, special_text(*json, key, config.directory + "/" + file));
      if (text.empty()) continue;
      if (const auto it = ids.find(text); it != ids.end()) found = it->second;
    }
    std::optional<Token> first_of_list;
    for (const auto& [json, file] : {std::pair{&config.model, &config_path},
                                     {&text_config, &config_path},
                                     {&config.generation, &generation_path}}) {
      SHOEHORN_TRY(const auto listed, ids_of(*json, key + "_id", vocab.tokens.size(), *file));
      if (listed.empty()) continue;
      const bool single = !(*json)[key + "_id"].is_array();
      if (single && !found) found = listed.front();
      if (!single && !first_of_list) first_of_list = listed.front();
    }
    if (!found) found = first_of_list;
    if (found) *target = found;
  }
  for (const auto& [json, file] :
       {std::pair{&config.model, &config_path}, {&text_config, &config_path}, {&config.generation, &generation_path}}) {
    SHOEHORN_TRY(const auto listed, ids_of(*json, "eos_token_id", vocab.tokens.size(), *file));
    vocab.eog.insert(vocab.eog.end(), listed.begin(), listed.end());
  }
  return {};
}

/// A TemplateProcessing step that puts special tokens around a text says whether BOS and EOS are added.
void apply_post_processor(const Json& post_processor, const std::string& bos, const std::string& eos, Vocab& vocab) {
  if (!post_processor.is_object()) return;
  if (post_processor.contains("processors") && post_processor["processors"].is_array()) {
    for (const Json& step : post_processor["processors"]) apply_post_processor(step, bos, eos, vocab);
    return;
  }
  if (json_or(post_processor, "type", std::string()) != "TemplateProcessing") return;
  const auto single = post_processor.find("single");
  if (single == post_processor.end() || !single->is_array() || single->size() < 2) return;
  const auto special = [](const Json& entry) {
    return entry.is_object() && entry.contains("SpecialToken") ? json_or(entry["SpecialToken"], "id", std::string())
                                                               : std::string();
  };
  const std::string first = special(single->front()), last = special(single->back());
  if (!first.empty()) vocab.add_bos = bos.empty() || first == bos;
  if (!last.empty()) vocab.add_eos = eos.empty() || last == eos;
}

Expected<std::string> read_chat_template(const Configuration& config) {
  Json value;
  if (config.tokenizer.contains("chat_template")) {
    value = config.tokenizer["chat_template"];
  }
  if (value.is_null()) {
    const std::string jinja = config.directory + "/chat_template.jinja";
    if (exists(jinja)) return read_file(jinja, uint64_t{16} << 20);
    SHOEHORN_TRY(const Json json, read_optional(config.directory + "/chat_template.json"));
    if (json.contains("chat_template")) value = json["chat_template"];
  }
  if (value.is_null()) return std::string();
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array())
    return fail(ErrorCode::kInvalid, "{}: chat_template: expected a text or a list", config.directory);
  // Several templates by name: the default one, or the first.
  std::string chosen;
  for (const Json& entry : value) {
    const std::string text = json_or(entry, "template", std::string());
    if (chosen.empty() || json_or(entry, "name", std::string()) == "default") chosen = text;
  }
  return chosen;
}

}  // namespace

Expected<Vocab> vocab_from_directory(const std::string& directory, uint64_t n_vocab) {
  if (n_vocab > kMaxVocab) {
    return fail(ErrorCode::kInvalid, "{}: a vocabulary of {} tokens, at most {} are supported", directory, n_vocab,
                kMaxVocab);
  }
  SHOEHORN_TRY(const Configuration config, Configuration::read(directory));
  const uint64_t most = most_tokens(directory);
  SHOEHORN_TRY(TokenizerFile file, read_tokenizer_file(config, n_vocab == 0 ? most : n_vocab));
  if (n_vocab > most) return fail(ErrorCode::kInvalid, "{}: a vocabulary of {} tokens; the tokenizer's files are too small for more than {}", directory, n_vocab, most);
  SHOEHORN_RETURN_IF_ERROR(add_tokens(config, file));
  Vocab& vocab = file.vocab;
  file.tokens.finish(n_vocab, vocab);
  if (auto status = find_special_tokens(config, vocab); !status) return tl::unexpected(status.error());

  const PreTokenizer* pre = vocab.model == Model::kBpe ? find_pretokenizer(vocab.pre) : nullptr;
  vocab.add_bos = pre == nullptr || pre->add_bos;
  const auto text_of = [&](const char* key) {
    return special_text(config.tokenizer, key, directory + "/tokenizer_config.json");
  };
  SHOEHORN_TRY(const std::string bos, text_of("bos_token"));
  SHOEHORN_TRY(const std::string eos, text_of("eos_token"));
  apply_post_processor(file.post_processor, bos, eos, vocab);
  vocab.add_bos = json_or(config.tokenizer, "add_bos_token", vocab.add_bos) && vocab.bos;
  vocab.add_eos = json_or(config.tokenizer, "add_eos_token", vocab.add_eos) && vocab.eos;
  if (vocab.model == Model::kSpm) {
    vocab.add_space_prefix = json_or(config.tokenizer, "add_prefix_space", vocab.add_space_prefix);
  }
  SHOEHORN_TRY(vocab.chat_template, read_chat_template(config));
  derive_end_tokens(vocab);
  if (auto status = check_vocab(vocab); !status) return annotate(status.error(), directory);
  return std::move(vocab);
}

}  // namespace shoehorn::tokenizer
