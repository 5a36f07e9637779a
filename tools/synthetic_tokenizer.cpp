#include "synthetic_tokenizer.h"

#include <array>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace shoehorn::tools {
namespace {

constexpr const char* kSpace = "\u0120";  // how byte-level BPE writes a space

constexpr auto kWords = std::to_array<std::string_view>(
    {"the",   "of",      "and",    "to",     "in",     "is",    "that",  "it",     "was",   "for",   "on",   "are",
     "as",    "with",    "his",    "they",   "at",     "be",    "this",  "from",   "have",  "or",    "by",   "one",
     "had",   "not",     "but",    "what",   "all",    "were",  "when",  "we",     "there", "can",   "an",   "your",
     "which", "their",   "said",   "if",     "do",     "will",  "each",  "about",  "how",   "up",    "out",  "them",
     "then",  "she",     "many",   "some",   "so",     "these", "would", "other",  "into",  "has",   "more", "her",
     "two",   "like",    "him",    "see",    "time",   "could", "no",    "make",   "than",  "first", "been", "its",
     "who",   "now",     "people", "my",     "made",   "over",  "did",   "down",   "only",  "way",   "find", "use",
     "may",   "water",   "long",   "little", "very",   "after", "words", "called", "just",  "where", "most", "know",
     "get",   "through", "back",   "much",   "before", "go",    "good",  "new"});

/// The 256 bytes as the printable characters that GPT-2 gave them, in GPT-2's order.
std::vector<std::string> byte_tokens() {
  std::vector<std::string> out;
  const auto utf8 = [](unsigned code) {
    std::string text;
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else {
      text += static_cast<char>(0xc0 | (code >> 6));
      text += static_cast<char>(0x80 | (code & 0x3f));
    }
    return text;
  };
  const auto printable = [](unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  };
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (printable(byte)) out.push_back(utf8(byte));
  }
  for (unsigned byte = 0, next = 256; byte < 256; ++byte) {
    if (!printable(byte)) out.push_back(utf8(next++));
  }
  return out;
}

/// Tokens and merges of a vocabulary of `n_tokens` >= 256.
class MergeBuilder {
 public:
  explicit MergeBuilder(uint64_t n_tokens) : n_tokens_(n_tokens), tokens_(byte_tokens()) {
    known_.insert(tokens_.begin(), tokens_.end());
    for (const auto word : kWords) {
      add_word(kSpace, word);
      add_word(std::string(1, word[0]), word.substr(1));
    }
    std::vector<std::string> queue{kSpace};
    for (char c = 'a'; c <= 'z'; ++c) queue.emplace_back(1, c);
    for (char c = 'A'; c <= 'Z'; ++c) queue.emplace_back(1, c);
    for (size_t i = 0; tokens_.size() < n_tokens_; ++i) {
      for (char c = 'a'; c <= 'z'; ++c) {
        const std::string left = queue[i];
        add_merge(left, std::string(1, c));
        queue.push_back(left + c);
      }
    }
  }
  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<std::string>& merges() const { return merges_; }

 private:
  void add_word(std::string left, std::string_view rest) {
    for (const char c : rest) {
      add_merge(left, std::string(1, c));
      left += c;
    }
  }
  void add_merge(const std::string& left, const std::string& right) {
    if (tokens_.size() == n_tokens_ || !known_.insert(left + right).second) return;
    tokens_.push_back(left + right);
    merges_.push_back(left + " " + right);
  }

  uint64_t n_tokens_;
  std::vector<std::string> tokens_, merges_;
  std::unordered_set<std::string> known_;
};

struct Special {
  std::string text;
  bool special = true;  ///< false: an added token that decoding shows
};

std::vector<Special> special_tokens(TokenizerStyle style, uint64_t n) {
  const auto reserved = [](int i) { return Special{"<|reserved_special_token_" + std::to_string(i) + "|>"}; };
  std::vector<Special> out;
  switch (style) {
    case TokenizerStyle::kLlama3:
      out = {{"<|begin_of_text|>"},
             {"<|end_of_text|>"},
             reserved(0),
             reserved(1),
             {"<|finetune_right_pad_id|>"},
             reserved(2),
             {"<|start_header_id|>"},
             {"<|end_header_id|>"},
             {"<|eom_id|>"},
             {"<|eot_id|>"},
             {"<|python_tag|>"}};
      for (int i = 3; out.size() < n; ++i) out.push_back(reserved(i));
      break;
    case TokenizerStyle::kQwen2:
      out = {{"<|endoftext|>"}, {"<|im_start|>"}, {"<|im_end|>"}};
      break;
    case TokenizerStyle::kQwen3:
      for (const char* text :
           {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
            "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
            "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"}) {
        out.push_back({text});
      }
      for (const char* text :
           {"<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
            "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"}) {
        out.push_back({text, false});
      }
      break;
    case TokenizerStyle::kLlama2:
      out = {{"<unk>"}, {"<s>"}, {"</s>"}};
      if (n > 3) out.push_back({"<|endoftext|>"});  // Phi-3's, without which llama.cpp does not load a model of that name
      break;
    case TokenizerStyle::kGemma:
      out = {{"<pad>"}, {"<eos>"}, {"<bos>"}, {"<unk>"}, {"<start_of_turn>"}, {"<end_of_turn>"}};
      break;
  }
  out.resize(n);
  return out;
}

constexpr const char* kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr const char* kLlama3Template =
    "{{- bos_token }}{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}{{- "
    "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}";
constexpr const char* kChatMlTemplate =
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' "
    "}}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";
constexpr const char* kLlama2Template =
    "{{- bos_token }}{%- for message in messages %}{%- if message['role'] == 'user' %}{{- '[INST] ' + "
    "message['content'] + ' [/INST]' }}{%- else %}{{- ' ' + message['content'] + ' ' + eos_token }}{%- endif %}{%- "
    "endfor "
    "%}";

constexpr const char* kGemmaTemplate =
    "{{ bos_token }}{%- for message in messages %}{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' "
    "else "
    "message['role']) + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{%- endfor %}{%- if "
    "add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}";

/// The post-processor that puts `bos` before the text.
Json bos_processor(const std::string& bos, uint64_t id) {
  const Json token = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const Json second_token = {{"SpecialToken", {{"id", bos}, {"type_id", 1}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  Json processor;
  processor["type"] = "TemplateProcessing";
  processor["single"] = Json::array({token, text});
  processor["pair"] = Json::array({token, text, second_token, second});
  processor["special_tokens"][bos] = {{"id", bos}, {"ids", Json::array({id})}, {"tokens", Json::array({bos})}};
  return processor;
}

Json byte_level(bool add_prefix_space, bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", use_regex}};
}

}  // namespace

TokenizerFiles make_tokenizer(const ModelPlan& plan) {
  const bool qwen = plan.tokenizer == TokenizerStyle::kQwen2 || plan.tokenizer == TokenizerStyle::kQwen3;
  const bool first = specials_first(plan.tokenizer);
  const size_t bos = plan.config.at("bos_token_id").get<size_t>(), eos = plan.config.at("eos_token_id").get<size_t>();
  const auto n_vocab = plan.config.at("vocab_size").get<uint64_t>();
  const MergeBuilder builder(n_vocab - plan.n_special - plan.n_padding);
  const auto specials = special_tokens(plan.tokenizer, plan.n_special);
  const uint64_t first_special = first ? 0 : builder.tokens().size();

  TokenizerFiles files;
  Json& tokenizer = files.tokenizer;
  tokenizer["version"] = "1.0";
  tokenizer["truncation"] = nullptr;
  tokenizer["padding"] = nullptr;
  Json& added = tokenizer["added_tokens"] = Json::array();
  Json decoder_entries = Json::object();
  for (size_t i = 0; i < specials.size(); ++i) {
    Json entry = {{"content", specials[i].text}, {"single_word", false},          {"lstrip", false}, {"rstrip", false},
                  {"normalized", false},         {"special", specials[i].special}};
    decoder_entries[std::to_string(first_special + i)] = entry;
    entry["id"] = first_special + i;
    added.push_back(std::move(entry));
  }
  tokenizer["normalizer"] = qwen ? Json{{"type", "NFC"}} : Json(nullptr);
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", qwen ? kQwen2Regex : kLlama3Regex}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  tokenizer["pre_tokenizer"] = {{"type", "Sequence"},
                                {"pretokenizers", Json::array({split, byte_level(false, !qwen, false)})}};
  if (qwen) {
    tokenizer["post_processor"] = byte_level(false, false, false);
  } else {
    tokenizer["post_processor"] = {
        {"type", "Sequence"},
        {"processors",
         Json::array({byte_level(true, false, true), bos_processor(specials[bos - first_special].text, bos)})}};
  }
  tokenizer["decoder"] = byte_level(!qwen, !qwen, !qwen);
  Json& model = tokenizer["model"];
  model["type"] = "BPE";
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"})
    model[key] = nullptr;
  model["fuse_unk"] = false;
  model["byte_fallback"] = false;
  model["ignore_merges"] = plan.tokenizer == TokenizerStyle::kLlama3;
  Json& vocab = model["vocab"] = Json::object();
  uint64_t id = 0;
  if (first) {
    for (const Special& token : specials) vocab[token.text] = id++;
  }
  for (const std::string& token : builder.tokens()) vocab[token] = id++;
  model["merges"] = builder.merges();

  Json& config = files.tokenizer_config;
  config["tokenizer_class"] = qwen ? "Qwen2Tokenizer" : "PreTrainedTokenizerFast";
  config["added_tokens_decoder"] = std::move(decoder_entries);
  config["clean_up_tokenization_spaces"] = !qwen;
  config["model_input_names"] = {"input_ids", "attention_mask"};
  config["model_max_length"] = plan.config.at("max_position_embeddings");
  config["chat_template"] = qwen                                       ? kChatMlTemplate
                            : plan.tokenizer == TokenizerStyle::kGemma ? kGemmaTemplate
                            : first                                    ? kLlama2Template
                                                                       : kLlama3Template;
  if (qwen) {
    config["bos_token"] = nullptr;
    config["eos_token"] = plan.tokenizer == TokenizerStyle::kQwen3 ? "<|im_end|>" : "<|endoftext|>";
    config["pad_token"] = "<|endoftext|>";
    config["unk_token"] = nullptr;
    config["add_prefix_space"] = false;
  } else {
    config["bos_token"] = specials[bos - first_special].text;
    config["eos_token"] = specials[eos - first_special].text;
    if (first) config["unk_token"] = "<unk>";
  }
  return files;
}

}  // namespace shoehorn::tools
