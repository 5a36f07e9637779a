#include "serve/generate_request.h"

#include <charconv>
#include <random>

#include "serve/fields.h"

namespace shoehorn::serve {
namespace {

using tokenizer::Token;

constexpr size_t kMaxStops = 16, kMaxStopBytes = 1024, kMaxPrompts = 64, kMaxMessages = 10'000;

Expected<Token> token_of(const Json& value, const tokenizer::Tokenizer& tokenizer) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= tokenizer.n_vocab())
    return fail(ErrorCode::kInvalid, "prompt: {} is no token id below {}", value.dump(), tokenizer.n_vocab());
  return static_cast<Token>(value.get<int64_t>());
}

Expected<std::vector<Token>> tokens_of(const Json& list, const tokenizer::Tokenizer& tokenizer) {
  std::vector<Token> out;
  for (const Json& item : list) {
    SHOEHORN_TRY(const Token token, token_of(item, tokenizer));
    out.push_back(token);
  }
  return out;
}

Expected<std::vector<std::vector<Token>>> prompts_of(const Json* prompt, const tokenizer::Tokenizer& tokenizer) {
  std::vector<std::vector<Token>> out;
  if (prompt == nullptr) return fail(ErrorCode::kInvalid, "prompt is missing");
  if (prompt->is_string()) return std::vector<std::vector<Token>>{tokenizer.encode(prompt->get<std::string>())};
  if (!prompt->is_array() || prompt->empty())
    return fail(ErrorCode::kInvalid, "prompt must be a string, or a list of strings, ids or lists of ids");
  if (prompt->front().is_number()) {
    SHOEHORN_TRY(auto ids, tokens_of(*prompt, tokenizer));
    return std::vector<std::vector<Token>>{std::move(ids)};
  }
  if (prompt->size() > kMaxPrompts)
    return fail(ErrorCode::kInvalid, "prompt has {} entries, more than {}", prompt->size(), kMaxPrompts);
  for (const Json& item : *prompt) {
    if (item.is_string()) {
      out.push_back(tokenizer.encode(item.get<std::string>()));
    } else if (item.is_array()) {
      SHOEHORN_TRY(auto ids, tokens_of(item, tokenizer));
      out.push_back(std::move(ids));
    } else {
      return fail(ErrorCode::kInvalid, "prompt must be a string, or a list of strings, ids or lists of ids");
    }
  }
  return out;
}

Status read_sampler(const Fields& fields, engine::SamplerOptions& out) {
  const auto set = [&](const char* key, double least, double most, float& to) -> Status {
    SHOEHORN_TRY(const auto value, fields.number(key, least, most));
    if (value) to = static_cast<float>(*value);
    return {};
  };
  SHOEHORN_RETURN_IF_ERROR(set("temperature", 0, 100, out.temperature));
  SHOEHORN_RETURN_IF_ERROR(set("top_p", 0, 1, out.top_p));
  SHOEHORN_RETURN_IF_ERROR(set("min_p", 0, 1, out.min_p));
  SHOEHORN_RETURN_IF_ERROR(set("repeat_penalty", 0.01, 100, out.repeat_penalty));
  SHOEHORN_RETURN_IF_ERROR(set("presence_penalty", -10, 10, out.presence_penalty));
  SHOEHORN_RETURN_IF_ERROR(set("frequency_penalty", -10, 10, out.frequency_penalty));
  SHOEHORN_TRY(const auto top_k, fields.integer("top_k", -1, 1 << 24));
  if (top_k) out.top_k = static_cast<int>(*top_k);
  SHOEHORN_TRY(const auto last_n, fields.integer("repeat_last_n", -1, 1 << 24));
  if (last_n) out.repeat_last_n = static_cast<int>(*last_n);
  // -1 is llama.cpp's word for a new one each time.
  SHOEHORN_TRY(const auto seed, fields.integer("seed", -1, int64_t{1} << 53));
  out.seed = seed && *seed >= 0 ? static_cast<uint32_t>(*seed ^ (*seed >> 32)) : std::random_device()();
  if (const Json* bias = fields.find("logit_bias")) {
    if (!bias->is_object() || bias->size() > 10'000)
      return fail(ErrorCode::kInvalid, "logit_bias must be an object of at most 10000 token ids");
    for (const auto& [key, value] : bias->items()) {
      Token token = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
      if (error != std::errc() || end != key.data() + key.size() || token < 0)
        return fail(ErrorCode::kInvalid, "logit_bias: \"{}\" is no token id", key.substr(0, 40));
      if (!value.is_number() || !(std::abs(value.get<double>()) <= 100))
        return fail(ErrorCode::kInvalid, "logit_bias: values are from -100 to 100");
      out.logit_bias.emplace_back(token, value.get<float>());
    }
  }
  return {};
}

/// What both kinds of requests have.
Status read_common(const Json& body, const GenerateDefaults& defaults, GenerateRequest& out) {
  const Fields fields(body);
  out.sampler = defaults.sampler;
  SHOEHORN_RETURN_IF_ERROR(read_sampler(fields, out.sampler));
  out.max_tokens = defaults.max_tokens;
  for (const char* key : {"n_predict", "max_tokens", "max_completion_tokens"}) {
    // Only llama.cpp's own name has a word for "no limit".
    SHOEHORN_TRY(const auto value,
                 fields.integer(key, std::string_view(key) == "n_predict" ? -1 : 0, int64_t{1} << 31));
    if (value) out.max_tokens = *value;
  }
  SHOEHORN_TRY(const auto n, fields.integer("n", 1, static_cast<int64_t>(defaults.max_choices)));
  if (n) out.n = static_cast<size_t>(*n);
  SHOEHORN_TRY(out.stops, fields.texts("stop", kMaxStops));
  for (const std::string& stop : out.stops) {
    if (stop.empty() || stop.size() > kMaxStopBytes)
      return fail(ErrorCode::kInvalid, "stop: texts have from 1 to {} bytes", kMaxStopBytes);
  }
  SHOEHORN_TRY(const auto stream, fields.boolean("stream"));
  out.stream = stream.value_or(false);
  if (const Json* options = fields.find("stream_options")) {
    if (!options->is_object()) return fail(ErrorCode::kInvalid, "stream_options must be an object");
    SHOEHORN_TRY(const auto usage, Fields(*options).boolean("include_usage"));
    out.include_usage = usage.value_or(false);
  }
  if (const Json* format = fields.find("response_format")) {
    if (!format->is_object() || json_or(*format, "type", std::string()) != "text")
      return fail(ErrorCode::kUnsupported, "response_format: only {{\"type\": \"text\"}} is supported");
  }
  for (const char* key : {"grammar", "json_schema", "tools", "functions"}) {
    const Json* value = fields.find(key);
    if (value != nullptr && !value->empty()) return fail(ErrorCode::kUnsupported, "{} is not supported", key);
  }
  return {};
}

/// A message's content as text: as it is, or its parts one after another.
Expected<nlohmann::ordered_json> content_of(const nlohmann::ordered_json& content, size_t index) {
  if (content.is_string() || content.is_null()) return content;
  std::string text;
  if (!content.is_array())
    return fail(ErrorCode::kInvalid, "messages[{}].content must be a string or a list of parts", index);
  for (const auto& part : content) {
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string())
      return fail(ErrorCode::kInvalid, "messages[{}].content has a part without a type", index);
    if (part["type"] != "text")
      return fail(ErrorCode::kUnsupported, "messages[{}].content: the model reads text, no {}", index,
                  part["type"].get<std::string>().substr(0, 40));
    if (!part.contains("text") || !part["text"].is_string())
      return fail(ErrorCode::kInvalid, "messages[{}].content has a part without its text", index);
    text += part["text"].get<std::string>();
  }
  return nlohmann::ordered_json(text);
}

}  // namespace

Expected<std::vector<Token>> chat_ids(const Json& body, const tokenizer::Tokenizer& tokenizer,
                                      const tokenizer::ChatTemplate& chat_template) {
  const Json* messages = Fields(body).find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty() || messages->size() > kMaxMessages)
    return fail(ErrorCode::kInvalid, "messages must be a list of 1 to {} messages", kMaxMessages);
  tokenizer::ChatInputs inputs;
  inputs.merge_system = true;
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
      return fail(ErrorCode::kInvalid, "messages[{}] has no role", i);
    auto ordered = nlohmann::ordered_json(message);
    if (!ordered.contains("content")) ordered["content"] = nullptr;
    SHOEHORN_TRY(ordered["content"], content_of(ordered["content"], i));
    // OpenAI's new name of it.
    if (ordered["role"] == "developer") ordered["role"] = "system";
    inputs.messages.push_back(std::move(ordered));
  }
  if (const Json* more = Fields(body).find("chat_template_kwargs")) {
    if (!more->is_object()) return fail(ErrorCode::kInvalid, "chat_template_kwargs must be an object");
    inputs.extra = nlohmann::ordered_json(*more);
  }
  return encode_chat(tokenizer, chat_template, std::move(inputs));
}

Expected<GenerateRequest> read_completion(const Json& body, const tokenizer::Tokenizer& tokenizer,
                                          const GenerateDefaults& defaults) {
  GenerateRequest out;
  SHOEHORN_RETURN_IF_ERROR(read_common(body, defaults, out));
  const Fields fields(body);
  SHOEHORN_TRY(out.prompts, prompts_of(fields.find("prompt"), tokenizer));
  SHOEHORN_TRY(const auto logprobs, fields.integer("logprobs", 0, 20));
  if (logprobs) out.top_logprobs = static_cast<size_t>(*logprobs);
  SHOEHORN_TRY(const auto echo, fields.boolean("echo"));
  out.echo = echo.value_or(false);
  if (out.echo && out.top_logprobs) return fail(ErrorCode::kUnsupported, "echo with logprobs is not supported");
  SHOEHORN_TRY(const auto suffix, fields.text("suffix"));
  if (suffix && !suffix->empty()) return fail(ErrorCode::kUnsupported, "suffix is not supported");
  if (out.prompts.size() * out.n > defaults.max_choices * kMaxPrompts)
    return fail(ErrorCode::kInvalid, "{} prompts with n = {} are more answers than one request may ask for",
                out.prompts.size(), out.n);
  return out;
}

Expected<GenerateRequest> read_chat(const Json& body, const tokenizer::Tokenizer& tokenizer,
                                    const tokenizer::ChatTemplate& chat_template, const GenerateDefaults& defaults) {
  GenerateRequest out;
  out.chat = true;
  SHOEHORN_RETURN_IF_ERROR(read_common(body, defaults, out));
  const Fields fields(body);
  SHOEHORN_TRY(const auto logprobs, fields.boolean("logprobs"));
  SHOEHORN_TRY(const auto top, fields.integer("top_logprobs", 0, 20));
  if (top && !logprobs.value_or(false)) return fail(ErrorCode::kInvalid, "top_logprobs needs logprobs to be true");
  if (logprobs.value_or(false)) out.top_logprobs = static_cast<size_t>(top.value_or(0));
  SHOEHORN_TRY(auto ids, chat_ids(body, tokenizer, chat_template));
  out.prompts.push_back(std::move(ids));
  return out;
}

}  // namespace shoehorn::serve
