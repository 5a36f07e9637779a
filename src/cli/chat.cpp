#include "cli/chat.h"

#include <array>
#include <cstdio>
#include <optional>
#include <span>

#include "base/json.h"
#include "base/output_file.h"
#include "cli/chat_input.h"
#include "cli/command.h"
#include "cli/prompt_cache.h"
#include "tokenizer/chat_prompt.h"

namespace shoehorn::cli {
namespace {

using tokenizer::Token;

constexpr uint64_t kMaxSavedBytes = uint64_t{64} << 20;

/// Where the template comes from, for messages.
std::string template_from(const engine::Session& session, const ChatOptions& options) {
  return options.template_override.empty() ? session.model().file().path() : "--chat-template";
}

class Chat {
 public:
  Chat(engine::Session& session, const ChatOptions& options, tokenizer::ChatTemplate chat_template)
      : session_(session),
        options_(options),
        template_(std::move(chat_template)),
        sampler_(options.sampler),
        cache_(options.prompt_cache, options.prompt_cache_ro) {
    if (!options.system.empty()) add("system", options.system);
    held_ = cache_.load(session);
  }

  /// A message, or a command. False ends the chat.
  Expected<bool> take(const std::string& line) {
    if (line.starts_with("//")) {
      SHOEHORN_RETURN_IF_ERROR(say(line.substr(1)));
      return true;
    }
    if (!line.starts_with('/')) {
      SHOEHORN_RETURN_IF_ERROR(say(line));
      return true;
    }
    const size_t name_end = std::min(line.find_first_of(" \n"), line.size());
    const std::string_view name = std::string_view(line).substr(0, name_end);
    if (name == "/exit" || name == "/quit") return false;
    for (const Command& command : kCommands) {
      if (command.name != name) continue;
      SHOEHORN_RETURN_IF_ERROR((this->*command.run)(CLI::detail::trim_copy(line.substr(name_end))));
      return true;
    }
    return fail(ErrorCode::kInvalid, "there is no command {}; /help tells them, and // begins a message with one /",
                std::string(name));
  }

  Status say(const std::string& message) {
    add("user", message);
    const auto answered = answer();
    // A message without an answer counts as never said.
    if (!answered || !*answered) messages_.erase(messages_.size() - 1);
    if (!answered) return tl::unexpected<Error>(answered.error());
    return {};
  }

  Status end() {
    if (n_tokens_ > 0) remark("");
    if (n_tokens_ > 0) SHOEHORN_RETURN_IF_ERROR(stats(""));
    return cache_.save(session_, held_);
  }

 private:
  struct Command {
    std::string_view name, argument, help;
    Status (Chat::*run)(const std::string& argument);
  };
  static const std::array<Command, 7> kCommands;

  void add(const char* role, const std::string& content) {
    messages_.push_back({{"role", role}, {"content", content}});
  }

  /// The next answer, streaming to stdout; false when it was stopped before it began.
  Expected<bool> answer() {
    const auto encoded = encode_chat(session_.model().tokenizer(), template_, messages_);
    if (!encoded) return annotate(encoded.error(), template_from(session_, options_));
    const auto& ids = *encoded;
    if (ids.size() >= session_.n_ctx()) {
      return fail(ErrorCode::kTooLarge,
                  "the conversation has {} tokens, the context {}; /clear begins anew, a larger -c has more room",
                  ids.size(), session_.n_ctx());
    }
    const size_t common = held_of(ids, held_);
    session_.truncate(common);
    const std::span<const Token> fresh(ids.data() + common, ids.size() - common);
    const auto& tokenizer = session_.model().tokenizer();
    std::string text;
    clear_interrupt();
    const auto progress = make_progress();
    auto generated = engine::generate(session_, fresh, sampler_, options_.n_predict, *progress, [&](Token token) {
      const std::string piece = tokenizer.piece(token);
      text += piece;
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
      return !interrupted();
    });
    held_ = ids;
    if (!generated) {
      held_.resize(session_.n_past());
      if (generated.error().code == ErrorCode::kCancelled) return false;
      return tl::unexpected<Error>(generated.error());
    }
    const engine::Generation& result = *generated;
    std::fputs("\n", stdout);
    if (result.stop == engine::StopReason::kContextFull) {
      remark(fmt::format("(stopped: the context of {} tokens is full)", session_.n_ctx()));
    }
    if (result.stop == engine::StopReason::kStuck)
      remark("(stopped: the model has no token that the grammar goes on with)");
    add("assistant", text);
    held_.insert(held_.end(), result.ids.begin(), result.ids.end());
    held_.resize(session_.n_past());
    n_tokens_ += result.ids.size();
    n_timed_ += result.ids.empty() ? 0 : result.ids.size() - 1;
    decode_seconds_ += result.decode_seconds;
    first_seconds_ = result.prompt_seconds;
    n_read_ = result.n_prompt;
    return true;
  }

  bool has_system() const { return !messages_.empty() && messages_[0]["role"] == "system"; }

  Status help(const std::string&) {
    std::string text;
    for (const Command& command : kCommands)
      text += fmt::format("{:<28}{}\n", fmt::format("{} {}", command.name, command.argument), command.help);
    remark(text +
           "/exit                       end the chat (also Ctrl-D)\n\nCtrl-C stops an answer. A backslash at a line's "
           "end goes on with the message.");
    return {};
  }

  Status set_system(const std::string& text) {
    if (text.empty()) {
      remark(has_system() ? messages_[0]["content"].get<std::string>() : "there is no system message");
      return {};
    }
    if (has_system()) {
      messages_[0]["content"] = text;
    } else {
      messages_.insert(messages_.begin(), OrderedJson{{"role", "system"}, {"content", text}});
    }
    return {};
  }

  Status clear(const std::string&) {
    messages_ = has_system() ? OrderedJson::array({messages_[0]}) : OrderedJson::array();
    sampler_ = engine::Sampler(options_.sampler);
    remark("the conversation begins anew");
    return {};
  }

  Status regenerate(const std::string&) {
    if (messages_.empty() || messages_.back()["role"] != "assistant")
      return fail(ErrorCode::kInvalid, "there is no answer yet");
    const OrderedJson last = messages_.back();
    messages_.erase(messages_.size() - 1);
    const auto answered = answer();
    if (!answered || !*answered) messages_.push_back(last);
    if (!answered) return tl::unexpected<Error>(answered.error());
    return {};
  }

  Status save(const std::string& path) {
    if (path.empty()) return fail(ErrorCode::kInvalid, "/save needs a file");
    SHOEHORN_RETURN_IF_ERROR(
        write_file(path, messages_.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n"));
    remark(fmt::format("{} messages in {}", messages_.size(), path));
    return {};
  }

  Status load(const std::string& path) {
    if (path.empty()) return fail(ErrorCode::kInvalid, "/load needs a file");
    SHOEHORN_TRY(const std::string text, read_file(path, kMaxSavedBytes));
    auto messages = parse_ordered_json(text);
    if (!messages) return annotate(messages.error(), path);
    if (messages->is_object() && messages->contains("messages")) messages = OrderedJson((*messages)["messages"]);
    if (!messages->is_array()) return fail(ErrorCode::kInvalid, "{} is no list of messages", path);
    for (const OrderedJson& message : *messages) {
      const auto is_text = [&](const char* key) {
        return message.is_object() && message.contains(key) && message[key].is_string();
      };
      if (!is_text("role") || !is_text("content"))
        return fail(ErrorCode::kInvalid, "{}: a message is {{\"role\": ..., \"content\": ...}}", path);
    }
    messages_ = std::move(*messages);
    remark(fmt::format("{} messages of {}", messages_.size(), path));
    return {};
  }

  Status stats(const std::string&) {
    const double rate = decode_seconds_ > 0 ? static_cast<double>(n_timed_) / decode_seconds_ : 0;
    remark(
        fmt::format("{} tokens generated, {:.1f} tok/s; last first token after {:.0f} ms ({} tokens read); {} of {} "
                    "tokens of context used",
                    n_tokens_, rate, first_seconds_ * 1000, n_read_, session_.n_past(), session_.n_ctx()));
    return {};
  }

  engine::Session& session_;
  const ChatOptions& options_;
  tokenizer::ChatTemplate template_;
  engine::Sampler sampler_;
  OrderedJson messages_ = OrderedJson::array();
  PromptCache cache_;
  std::vector<Token> held_;  // what the KV cache holds
  size_t n_tokens_ = 0, n_timed_ = 0, n_read_ = 0;
  double decode_seconds_ = 0, first_seconds_ = 0;
};

const std::array<Chat::Command, 7> Chat::kCommands = {{
    {"/help", "", "this list", &Chat::help},
    {"/system", "[TEXT]", "show the system message, or make TEXT the system message", &Chat::set_system},
    {"/regenerate", "", "answer the last message again", &Chat::regenerate},
    {"/clear", "", "forget the conversation, not the system message", &Chat::clear},
    {"/save", "FILE", "write the conversation as JSON", &Chat::save},
    {"/load", "FILE", "go on with a conversation that was saved", &Chat::load},
    {"/stats", "", "tokens, their rate, time to the first one, context used", &Chat::stats},
}};

}  // namespace

Status chat_loop(engine::Session& session, const ChatOptions& options) {
  const std::string& source =
      options.template_override.empty() ? session.model().tokenizer().vocab().chat_template : options.template_override;
  auto parsed = tokenizer::ChatTemplate::parse(source);
  if (!parsed) return annotate(parsed.error(), template_from(session, options));
  ChatInput input;
  Chat chat(session, options, std::move(*parsed));
  if (!options.first_message.empty()) {
    SHOEHORN_RETURN_IF_ERROR(chat.say(options.first_message));
  } else if (input.is_terminal()) {
    remark("Chat. /help tells the commands; Ctrl-D ends it, Ctrl-C stops an answer.");
  }
  for (;;) {
    clear_interrupt();  // a Ctrl-C that came too late for its answer
    if (interrupted()) break;
    const auto line = input.read();
    if (!line) break;
    if (line->empty()) continue;
    const auto goes_on = chat.take(*line);
    if (!goes_on && !input.is_terminal()) return tl::unexpected<Error>(goes_on.error());
    if (!goes_on) remark(goes_on.error().message);
    if (goes_on && !*goes_on) break;
  }
  return chat.end();
}

}  // namespace shoehorn::cli
