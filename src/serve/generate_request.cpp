#include "serve/generate_request.h"

#include <charconv>
#include <random>

#include "grammar/json_schema.h"
#include "serve/fields.h"

namespace shoehorn::serve {
namespace {

using tokenizer::Token;

constexpr size_t kMaxStops = 16, kMaxStopBytes = 1024, kMaxPrompts = 64, kMaxMessages = 10'000;

Expected<Token> token_of(const Json& value, const char* key, const tokenizer::Tokenizer& tokenizer) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= tokenizer.n_vocab())
    return fail(ErrorCode::kInvalid, "{}: {} is no token id below {}", key, value.dump(), tokenizer.n_vocab());
  return static_cast<Token>(value.get<int64_t>());
}

Expected<std::vector<Token>> tokens_of(const Json& list, const char* key, const tokenizer::Tokenizer& tokenizer) {
  std::vector<Token> out;
  for (const Json& item : list) {
    SHOEHORN_TRY(const Token token, token_of(item, key, tokenizer));
    out.push_back(token);
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

Expected<std::string> gbnf_of_format(const OrderedJson& format) {
  const std::string type = format.is_object() && format.contains("type") && format["type"].is_string()
                               ? format["type"].get<std::string>()
                               : "";
  if (type == "text") return "";
  if (type == "json_object")
    return format.contains("schema") ? grammar::gbnf_of_schema(format["schema"]) : grammar::gbnf_of_any_object();
  if (type != "json_schema")
    return fail(ErrorCode::kInvalid, "response_format: its type is text, json_object or json_schema");
  const OrderedJson named = format.contains("json_schema") ? format["json_schema"] : OrderedJson();
  if (!named.is_object() || !named.contains("schema"))
    return fail(ErrorCode::kInvalid, "response_format: json_schema.schema is missing");
  return grammar::gbnf_of_schema(named["schema"]);
}

/// OpenAI's response_format, llama.cpp's grammar and json_schema: one of them.
Status read_grammar(const RequestBody& body, const GenerateContext& context, GenerateRequest& out) {
  std::string gbnf;
  const char* from = nullptr;
  for (const char* key : {"response_format", "json_schema", "grammar"}) {
    const Json* field = Fields(body.fields).find(key);
    if (field == nullptr || *field == "") continue;
    const OrderedJson& value = body.ordered[key];
    Expected<std::string> read;
    if (std::string_view(key) == "response_format") {
      read = gbnf_of_format(value);
    } else if (std::string_view(key) == "json_schema") {
      read = grammar::gbnf_of_schema(value);
    } else if (value.is_string()) {
      read = value.get<std::string>();
    } else {
      return fail(ErrorCode::kInvalid, "grammar must be a string");
    }
    if (!read) return annotate(read.error(), key);
    if (read->empty()) continue;
    if (from != nullptr)
      return fail(ErrorCode::kInvalid, "{} and {} cannot both say what the answer looks like", from, key);
    gbnf = std::move(*read);
    from = key;
  }
  if (from == nullptr) return {};
  auto read = grammar::token_grammar(gbnf, context.token_texts());
  if (!read) return annotate(read.error(), from);
  out.sampler.grammar = std::move(*read);
  return {};
}

/// What both kinds of requests have.
Status read_common(const RequestBody& body, const GenerateContext& context, GenerateRequest& out) {
  const Fields fields(body.fields);
  const GenerateDefaults& defaults = context.defaults;
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
  if (const Json* functions = fields.find("functions"); functions != nullptr && !functions->empty())
    return fail(ErrorCode::kUnsupported, "functions is not supported; tools took its place");
  SHOEHORN_TRY(out.adapters, read_adapters(body.fields, context));
  return read_grammar(body, context, out);
}

/// A message's content as text: as it is, or its parts one after another.
Expected<OrderedJson> content_of(const OrderedJson& content, size_t index) {
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
  return OrderedJson(text);
}

/// Which tools a request offers, and whether one has to be called.
struct Tools {
  OrderedJson list;  ///< null: none
  bool forced = false;
  std::string name;  ///< of the one that is forced; empty: any
};

Expected<Tools> read_tools(const RequestBody& body, const GenerateContext& context) {
  Tools out;
  const Fields fields(body.fields);
  const Json* tools = fields.find("tools");
  const Json* choice = fields.find("tool_choice");
  const bool none = choice != nullptr && *choice == "none";
  if (choice != nullptr && !none && *choice != "auto") {
    out.forced = true;
    if (choice->is_object() && choice->contains("function"))
      out.name = json_or((*choice)["function"], "name", std::string());
    if (*choice != "required" && out.name.empty())
      return fail(
          ErrorCode::kInvalid,
          "tool_choice must be none, auto, required or {{\"type\": \"function\", \"function\": {{\"name\": ...}}}}");
  }
  if (tools == nullptr || tools->empty()) {
    if (out.forced) return fail(ErrorCode::kInvalid, "tool_choice asks for a call and there are no tools");
    return out;
  }
  SHOEHORN_RETURN_IF_ERROR(check_tools(body.ordered["tools"]));
  if (none) return out;
  if (context.tool_format == nullptr)
    return fail(ErrorCode::kUnsupported,
                "tools: the chat template has none, or writes calls in a form that is not known here");
  out.list = body.ordered["tools"];
  return out;
}

/// Arguments of earlier calls are text with OpenAI, and an object in templates.
bool open_arguments(OrderedJson& message) {
  bool changed = false;
  if (!message.contains("tool_calls") || !message["tool_calls"].is_array()) return false;
  for (OrderedJson& call : message["tool_calls"]) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object() ||
        !call["function"].contains("arguments"))
      continue;
    OrderedJson& arguments = call["function"]["arguments"];
    if (!arguments.is_string()) continue;
    auto object = parse_ordered_json(arguments.get<std::string>());
    if (!object || !object->is_object()) continue;
    arguments = std::move(*object);
    changed = true;
  }
  return changed;
}

}  // namespace

Expected<RequestBody> RequestBody::parse(std::string_view text) {
  auto fields = parse_json(text);
  if (!fields) return annotate(fields.error(), "the body");
  if (!fields->is_object()) return fail(ErrorCode::kInvalid, "the body must be a JSON object");
  // The one field with many keys, whose order says nothing.
  auto ordered = parse_ordered_json(text, 64, 512, "logit_bias");
  if (!ordered) return annotate(ordered.error(), "the body");
  return RequestBody{std::move(*fields), std::move(*ordered)};
}

Expected<std::vector<Token>> chat_ids(const RequestBody& body, const GenerateContext& context) {
  if (!context.chat_template)
    return fail(ErrorCode::kUnsupported, "the model has no chat template; the server takes one with --chat-template");
  const OrderedJson* messages = body.ordered.contains("messages") ? &body.ordered["messages"] : nullptr;
  if (messages == nullptr || !messages->is_array() || messages->empty() || messages->size() > kMaxMessages)
    return fail(ErrorCode::kInvalid, "messages must be a list of 1 to {} messages", kMaxMessages);
  tokenizer::ChatInputs inputs;
  inputs.merge_system = true;
  for (size_t i = 0; i < messages->size(); ++i) {
    OrderedJson ordered = (*messages)[i];
    if (!ordered.is_object() || !ordered.contains("role") || !ordered["role"].is_string())
      return fail(ErrorCode::kInvalid, "messages[{}] has no role", i);
    if (!ordered.contains("content")) ordered["content"] = nullptr;
    SHOEHORN_TRY(ordered["content"], content_of(ordered["content"], i));
    // OpenAI's new name of it.
    if (ordered["role"] == "developer") ordered["role"] = "system";
    inputs.messages.push_back(std::move(ordered));
  }
  if (const Json* more = Fields(body.fields).find("chat_template_kwargs")) {
    if (!more->is_object()) return fail(ErrorCode::kInvalid, "chat_template_kwargs must be an object");
    inputs.extra = body.ordered["chat_template_kwargs"];
  }
  SHOEHORN_TRY(const Tools tools, read_tools(body, context));
  inputs.tools = tools.list;
  tokenizer::ChatInputs opened = inputs;
  bool changed = false;
  for (OrderedJson& message : opened.messages) changed |= open_arguments(message);
  if (changed) {
    // A few templates put the text together themselves, and fail on an object.
    if (auto ids = encode_chat(context.tokenizer, *context.chat_template, std::move(opened))) return ids;
  }
  return encode_chat(context.tokenizer, *context.chat_template, std::move(inputs));
}

Expected<engine::Adapters> read_adapters(const Json& body, const GenerateContext& context) {
  engine::Adapters out = context.adapters;
  if (const Json* given = Fields(body).find("lora")) {
    if (!given->is_array() || given->size() > 1000)
      return fail(ErrorCode::kInvalid, "lora must be a list of {{\"id\", \"scale\"}}");
    for (engine::ScaledAdapter& adapter : out) adapter.scale = 0;
    for (const Json& item : *given) {
      if (!item.is_object()) return fail(ErrorCode::kInvalid, "lora must be a list of {{\"id\", \"scale\"}}");
      SHOEHORN_TRY(const auto id, Fields(item).integer("id", 0, int64_t{1} << 31));
      SHOEHORN_TRY(const auto scale, Fields(item).number("scale", -100, 100));
      if (!id || static_cast<size_t>(*id) >= out.size())
        return fail(ErrorCode::kInvalid, "lora: there is no adapter {}; the server has {} (--lora)", id.value_or(-1),
                    out.size());
      out[static_cast<size_t>(*id)].scale = static_cast<float>(scale.value_or(1));
    }
  }
  std::erase_if(out, [](const engine::ScaledAdapter& adapter) { return adapter.scale == 0; });
  return out;
}

Expected<std::vector<std::vector<Token>>> read_prompts(const Json& body, const char* key,
                                                       const GenerateContext& context) {
  const tokenizer::Tokenizer& tokenizer = context.tokenizer;
  const Json* prompt = Fields(body).find(key);
  std::vector<std::vector<Token>> out;
  if (prompt == nullptr) return fail(ErrorCode::kInvalid, "{} is missing", key);
  if (prompt->is_string()) return std::vector<std::vector<Token>>{tokenizer.encode(prompt->get<std::string>())};
  if (!prompt->is_array() || prompt->empty())
    return fail(ErrorCode::kInvalid, "{} must be a string, or a list of strings, ids or lists of ids", key);
  if (prompt->front().is_number()) {
    SHOEHORN_TRY(auto ids, tokens_of(*prompt, key, tokenizer));
    return std::vector<std::vector<Token>>{std::move(ids)};
  }
  if (prompt->size() > kMaxPrompts)
    return fail(ErrorCode::kInvalid, "{} has {} entries, more than {}", key, prompt->size(), kMaxPrompts);
  for (const Json& item : *prompt) {
    if (item.is_string()) {
      out.push_back(tokenizer.encode(item.get<std::string>()));
    } else if (item.is_array()) {
      SHOEHORN_TRY(auto ids, tokens_of(item, key, tokenizer));
      out.push_back(std::move(ids));
    } else {
      return fail(ErrorCode::kInvalid, "{} must be a string, or a list of strings, ids or lists of ids", key);
    }
  }
  return out;
}

Expected<GenerateRequest> read_completion(const RequestBody& body, const GenerateContext& context) {
  GenerateRequest out;
  SHOEHORN_RETURN_IF_ERROR(read_common(body, context, out));
  const Fields fields(body.fields);
  SHOEHORN_TRY(out.prompts, read_prompts(body.fields, "prompt", context));
  SHOEHORN_TRY(const auto logprobs, fields.integer("logprobs", 0, 20));
  if (logprobs) out.top_logprobs = static_cast<size_t>(*logprobs);
  SHOEHORN_TRY(const auto echo, fields.boolean("echo"));
  out.echo = echo.value_or(false);
  if (out.echo && out.top_logprobs) return fail(ErrorCode::kUnsupported, "echo with logprobs is not supported");
  SHOEHORN_TRY(const auto suffix, fields.text("suffix"));
  if (suffix && !suffix->empty()) return fail(ErrorCode::kUnsupported, "suffix is not supported");
  if (out.prompts.size() * out.n > context.defaults.max_choices * kMaxPrompts)
    return fail(ErrorCode::kInvalid, "{} prompts with n = {} are more answers than one request may ask for",
                out.prompts.size(), out.n);
  return out;
}

Expected<GenerateRequest> read_chat(const RequestBody& body, const GenerateContext& context) {
  GenerateRequest out;
  out.chat = true;
  SHOEHORN_RETURN_IF_ERROR(read_common(body, context, out));
  const Fields fields(body.fields);
  SHOEHORN_TRY(const auto logprobs, fields.boolean("logprobs"));
  SHOEHORN_TRY(const auto top, fields.integer("top_logprobs", 0, 20));
  if (top && !logprobs.value_or(false)) return fail(ErrorCode::kInvalid, "top_logprobs needs logprobs to be true");
  if (logprobs.value_or(false)) out.top_logprobs = static_cast<size_t>(top.value_or(0));
  SHOEHORN_TRY(auto ids, chat_ids(body, context));
  SHOEHORN_TRY(const Tools tools, read_tools(body, context));
  if (tools.forced) {
    if (out.sampler.grammar != nullptr)
      return fail(ErrorCode::kInvalid, "a call that tool_choice asks for cannot have another form, too");
    SHOEHORN_TRY(const OrderedJson schema, schema_of_call(tools.list, tools.name));
    auto gbnf = grammar::gbnf_of_schema(schema);
    if (!gbnf) return annotate(gbnf.error(), "tools");
    SHOEHORN_TRY(out.sampler.grammar, grammar::token_grammar(*gbnf, context.token_texts()));
    out.tools = &plain_tool_format();
    // The mark that the model would begin a call with stands before it as if the model had written it.
    if (context.tool_format->body == ToolFormat::Body::kObject) {
      const auto mark = context.tokenizer.encode(context.tool_format->begin, {.add_special = false});
      ids.insert(ids.end(), mark.begin(), mark.end());
    }
  } else if (!tools.list.is_null()) {
    out.tools = context.tool_format;
  }
  out.prompts.push_back(std::move(ids));
  return out;
}

}  // namespace shoehorn::serve
