#include "cli/chat.h"

#include <editline/readline.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>

#include "cli/command.h"
#include "tokenizer/chat_prompt.h"

namespace shoehorn::cli {
namespace {

using tokenizer::Token;

/// A line from the user; nothing at end of input or on Ctrl-C. On a terminal with editing and history.
std::optional<std::string> read_line() {
  if (isatty(STDIN_FILENO) == 0) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  const std::unique_ptr<char, decltype(&std::free)> line(readline("> "), &std::free);
  if (line == nullptr) return std::nullopt;
  if (*line.get() != '\0') add_history(line.get());
  return std::string(line.get());
}

class Chat {
 public:
  Chat(engine::Session& session, const ChatOptions& options, tokenizer::ChatTemplate chat_template)
      : session_(session), options_(options), template_(std::move(chat_template)), sampler_(options.sampler) {
    if (!options.system.empty()) add("system", options.system);
  }

  /// Answers one message, streaming to stdout.
  Status answer(const std::string& message) {
    add("user", message);
    SHOEHORN_TRY(const auto ids, encode_chat(session_.model().tokenizer(), template_, messages_));
    // What the cache already holds of this conversation need not be computed again; at least one token must be.
    size_t common = 0;
    while (common < held_.size() && common + 1 < ids.size() && held_[common] == ids[common]) ++common;
    if (ids.size() >= session_.n_ctx()) {
      return fail(ErrorCode::kTooLarge, "the conversation has {} tokens, the context {}; start again with a larger -c", ids.size(),
                  session_.n_ctx());
    }
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
    if (!generated && generated.error().code == ErrorCode::kCancelled) {
      // Stopped while reading: the message counts as never said.
      messages_.erase(messages_.size() - 1);
      held_.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(session_.n_past()));
      clear_interrupt();
      return {};
    }
    if (!generated) return tl::unexpected<Error>(generated.error());
    const engine::Generation& result = *generated;
    clear_interrupt();
    std::fputs("\n", stdout);
    if (result.stop == engine::StopReason::kContextFull) {
      remark(fmt::format("(stopped: the context of {} tokens is full)", session_.n_ctx()));
    }
    add("assistant", text);
    held_ = ids;
    held_.insert(held_.end(), result.ids.begin(), result.ids.end());
    held_.resize(session_.n_past());
    n_tokens_ += result.ids.size();
    decode_seconds_ += result.decode_seconds;
    return {};
  }

  void print_stats() const {
    if (n_tokens_ == 0) return;
    remark(fmt::format("\n{} tokens generated, {:.1f} tok/s, {} of {} tokens of context used", n_tokens_,
                       static_cast<double>(n_tokens_) / decode_seconds_, session_.n_past(), session_.n_ctx()));
  }

 private:
  void add(const char* role, const std::string& content) { messages_.push_back({{"role", role}, {"content", content}}); }

  engine::Session& session_;
  const ChatOptions& options_;
  tokenizer::ChatTemplate template_;
  engine::Sampler sampler_;
  nlohmann::ordered_json messages_ = nlohmann::ordered_json::array();
  std::vector<Token> held_;   // what the KV cache holds
  size_t n_tokens_ = 0;
  double decode_seconds_ = 0;
};

}  // namespace

Status chat_loop(engine::Session& session, const ChatOptions& options) {
  const std::string& source =
      options.template_override.empty() ? session.model().tokenizer().vocab().chat_template : options.template_override;
  auto parsed = tokenizer::ChatTemplate::parse(source);
  if (!parsed) return annotate(parsed.error(), "chat template");
  Chat chat(session, options, std::move(*parsed));
  if (!options.first_message.empty()) {
    SHOEHORN_RETURN_IF_ERROR(chat.answer(options.first_message));
  } else if (isatty(STDIN_FILENO) != 0) {
    remark("Chat. An empty line or Ctrl-D ends it; Ctrl-C stops an answer.");
  }
  while (!interrupted()) {
    const auto line = read_line();
    if (!line || (line->empty() && isatty(STDIN_FILENO) != 0)) break;
    if (line->empty()) continue;
    SHOEHORN_RETURN_IF_ERROR(chat.answer(*line));
  }
  chat.print_stats();
  return {};
}

}  // namespace shoehorn::cli
