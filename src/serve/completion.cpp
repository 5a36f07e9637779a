#include "serve/completion.h"

#include <array>
#include <chrono>
#include <mutex>
#include <random>

#include "engine/answer_text.h"
#include "serve/api_error.h"

namespace shoehorn::serve {
namespace {

using engine::StopReason;
using tokenizer::Token;

std::string new_id(const char* prefix) {
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::string out = prefix;
  for (int i = 0; i < 24; ++i) out += kLetters[random() % 36];
  return out;
}

int64_t unix_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Bytes as OpenAI has them beside a token's text, which may be part of a character.
Json bytes_of(const std::string& piece) {
  Json out = Json::array();
  for (const char c : piece) out.push_back(static_cast<unsigned char>(c));
  return out;
}

class Completion : public std::enable_shared_from_this<Completion> {
 public:
  Completion(Worker& worker, GenerateRequest request, std::string model_name, std::shared_ptr<HttpExchange> exchange)
      : worker_(worker),
        request_(std::move(request)),
        model_name_(std::move(model_name)),
        exchange_(std::move(exchange)) {}

  void start() {
    const size_t n = request_.prompts.size() * request_.n;
    for (size_t i = 0; i < n; ++i) choices_.push_back(std::make_shared<Choice>(*this, i));
    for (auto& choice : choices_) choice->hold(shared_from_this());
    left_ = n;
    for (size_t i = 0; i < n; ++i) {
      engine::Request request = {.prompt = request_.prompts[i / request_.n],
                                 .sampler = request_.sampler,
                                 .max_tokens = request_.max_tokens,
                                 .on_token = {},
                                 .on_logprobs = {},
                                 .adapters = request_.adapters};
      request.sampler.seed += static_cast<uint32_t>(i % request_.n);
      if (request_.top_logprobs) {
        request.n_top = *request_.top_logprobs;
        request.on_logprobs = [choice = choices_[i]](std::vector<engine::TokenLogprob> logprobs) {
          choice->logprobs_ = std::move(logprobs);
        };
      }
      if (const Status accepted = worker_.submit(std::move(request), choices_[i]); !accepted) {
        // All or nothing: what has begun is ended.
        const std::lock_guard lock(mutex_);
        refused_ = true;
        if (!begun_) exchange_->respond(error_response(accepted.error()));
        for (size_t rest = i; rest < n; ++rest) choices_[rest]->release();
        return;
      }
    }
  }

 private:
  /// One answer. Its tokens come on the worker's thread.
  class Choice : public Sink {
   public:
    Choice(Completion& owner, size_t index) : owner_(&owner), index_(index), text_(owner.request_.stops) {
      if (owner.request_.echo) {
        const auto& tokenizer = owner.worker_.model().tokenizer();
        echo_ = engine::valid_utf8(tokenizer.decode(owner.request_.prompts[index / owner.request_.n]));
      }
    }
    void hold(std::shared_ptr<Completion> owner) { held_ = std::move(owner); }
    void release() { held_.reset(); }

    bool on_token(Token token) override {
      const auto& tokenizer = owner_->worker_.model().tokenizer();
      std::string piece = tokenizer.piece(token);
      if (piece.empty() && owner_->request_.tools != nullptr) {
        piece = tokenizer.piece(token, true);
        if (!is_marker(*owner_->request_.tools, piece)) piece.clear();
      }
      if (!logprobs_.empty()) {
        owner_->add_logprobs(*this, logprobs_);
        logprobs_.clear();
      }
      const bool goes_on = text_.add(piece);
      owner_->on_text(*this, goes_on ? text_.take() : text_.rest());
      return goes_on;
    }
    void on_done(Expected<engine::Generation> result) override {
      // Keeps the owner, and with it this, until the end of the call.
      const auto owner = std::move(held_);
      if (owner != nullptr) owner->on_done(*this, std::move(result));
    }
    bool gone() const override { return owner_->refused_ || owner_->exchange_->gone(); }

    Completion* const owner_;
    std::shared_ptr<Completion> held_;
    const size_t index_;
    engine::AnswerText text_;
    std::string echo_;
    std::vector<engine::TokenLogprob> logprobs_;  // of the token that comes
    Json all_logprobs_ = Json::array(), new_logprobs_ = Json::array();
    std::string finish_reason_;
    bool said_role_ = false;
    // With tools: what has come, and how much of its parts is sent.
    std::string answer_;
    size_t sent_content_ = 0, sent_calls_ = 0;
  };

  Json logprob_json(const engine::TokenLogprob& logprob) const {
    const std::string piece = worker_.model().tokenizer().piece(logprob.token, true);
    return {{"token", engine::valid_utf8(piece)}, {"logprob", logprob.logprob}, {"bytes", bytes_of(piece)}};
  }

  void add_logprobs(Choice& choice, const std::vector<engine::TokenLogprob>& logprobs) {
    Json entry = logprob_json(logprobs.front());
    entry["top_logprobs"] = Json::array();
    for (size_t i = 1; i < logprobs.size(); ++i) entry["top_logprobs"].push_back(logprob_json(logprobs[i]));
    choice.all_logprobs_.push_back(entry);
    choice.new_logprobs_.push_back(std::move(entry));
  }

  /// As the endpoint has them; null where none were asked for.
  Json logprobs_json(const Json& entries) const {
    if (!request_.top_logprobs) return nullptr;
    if (request_.chat) return {{"content", entries}, {"refusal", nullptr}};
    Json out = {{"tokens", Json::array()}, {"token_logprobs", Json::array()}, {"top_logprobs", Json::array()}};
    for (const Json& entry : entries) {
      out["tokens"].push_back(entry["token"]);
      out["token_logprobs"].push_back(entry["logprob"]);
      Json top = Json::object();
      for (const Json& other : entry["top_logprobs"]) top[other["token"].get<std::string>()] = other["logprob"];
      out["top_logprobs"].push_back(std::move(top));
    }
    return out;
  }

  Json head(bool chunk) const {
    return {{"id", id_},
            {"object", request_.chat ? (chunk ? "chat.completion.chunk" : "chat.completion") : "text_completion"},
            {"created", created_},
            {"model", model_name_},
            {"system_fingerprint", "shoehorn"}};
  }

  void send(const Json& event) {
    exchange_->write("data: " + event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n\n");
  }

  static Json call_json(const ToolCall& call) {
    return {{"id", new_id("call_")},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
  }

  /// Text that came, with tools: what of it is said, and calls that have ended.
  std::pair<std::string, Json> new_parts(Choice& choice, const std::string& text, bool whole) {
    choice.answer_ += text;
    AnswerParts parts = answer_parts(*request_.tools, choice.answer_, whole);
    std::string content = parts.content.substr(std::min(choice.sent_content_, parts.content.size()));
    choice.sent_content_ += content.size();
    Json calls = Json::array();
    for (; choice.sent_calls_ < parts.calls.size(); ++choice.sent_calls_) {
      calls.push_back(call_json(parts.calls[choice.sent_calls_]));
      calls.back()["index"] = choice.sent_calls_;
    }
    return {std::move(content), std::move(calls)};
  }

  void send_choice(Choice& choice, const std::string& text, const Json& finish_reason,
                   const Json& calls = Json::array()) {
    Json event = head(true),
         entry = {{"index", choice.index_}, {"finish_reason", finish_reason}, {"logprobs", nullptr}};
    if (!choice.new_logprobs_.empty())
      entry["logprobs"] = logprobs_json(std::exchange(choice.new_logprobs_, Json::array()));
    if (request_.chat) {
      entry["delta"] = Json::object();
      if (!std::exchange(choice.said_role_, true)) entry["delta"]["role"] = "assistant";
      if (!text.empty() || (finish_reason.is_null() && calls.empty())) entry["delta"]["content"] = text;
      if (!calls.empty()) entry["delta"]["tool_calls"] = calls;
    } else {
      entry["text"] = std::exchange(choice.echo_, "") + text;
    }
    event["choices"] = Json::array({std::move(entry)});
    if (request_.include_usage) event["usage"] = nullptr;
    send(event);
  }

  void begin() {
    if (std::exchange(begun_, true)) return;
    exchange_->begin_stream({.content_type = "text/event-stream", .headers = {{"Cache-Control", "no-cache"}}});
  }

  void on_text(Choice& choice, const std::string& text) {
    if (!request_.stream || (text.empty() && choice.said_role_)) return;
    const std::lock_guard lock(mutex_);
    if (refused_) return;
    begin();
    if (request_.tools == nullptr) return send_choice(choice, text, nullptr);
    const auto [content, calls] = new_parts(choice, text, false);
    if (!content.empty() || !calls.empty() || !choice.said_role_) send_choice(choice, content, nullptr, calls);
  }

  void on_done(Choice& choice, Expected<engine::Generation> result) {
    const std::lock_guard lock(mutex_);
    --left_;
    if (refused_) return;
    if (result && result->stop == StopReason::kStuck)
      result = fail(ErrorCode::kUnsupported,
                    "the model's vocabulary has no token that the grammar goes on with, or the text nests too deeply");
    if (!result) {
      refused_ = true;
      if (!begun_) {
        exchange_->respond(error_response(result.error()));
      } else {
        send(Json::parse(error_response(result.error()).body));
        exchange_->end_stream();
      }
      return;
    }
    prompt_tokens_ += choice.index_ % request_.n == 0 ? result->n_prompt : 0;
    completion_tokens_ += result->ids.size();
    prompt_seconds_ = std::max(prompt_seconds_, result->prompt_seconds);
    decode_seconds_ = std::max(decode_seconds_, result->decode_seconds);
    choice.finish_reason_ =
        result->stop == StopReason::kEndOfGeneration || result->stop == StopReason::kStopped ? "stop" : "length";
    if (request_.stream && request_.tools == nullptr) {
      begin();
      send_choice(choice, choice.text_.rest(), choice.finish_reason_);
    } else if (request_.stream) {
      begin();
      const auto [content, calls] = new_parts(choice, choice.text_.rest(), true);
      if (choice.sent_calls_ > 0 && choice.finish_reason_ == "stop") choice.finish_reason_ = "tool_calls";
      send_choice(choice, content, choice.finish_reason_, calls);
    }
    if (left_ > 0) return;
    if (request_.stream) {
      if (request_.include_usage) {
        Json event = head(true);
        event["choices"] = Json::array();
        event["usage"] = usage();
        event["timings"] = timings();
        send(event);
      }
      exchange_->write("data: [DONE]\n\n");
      exchange_->end_stream();
      return;
    }
    Json body = head(false);
    body["choices"] = Json::array();
    for (const auto& done : choices_) {
      const std::string text = engine::valid_utf8(done->text_.text());
      Json entry = {{"index", done->index_},
                    {"finish_reason", done->finish_reason_},
                    {"logprobs", logprobs_json(done->all_logprobs_)}};
      if (request_.chat) {
        entry["message"] = {{"role", "assistant"}, {"content", text}, {"refusal", nullptr}};
        if (request_.tools != nullptr) add_parts(text, entry);
      } else {
        entry["text"] = done->echo_ + text;
      }
      body["choices"].push_back(std::move(entry));
    }
    body["usage"] = usage();
    body["timings"] = timings();
    exchange_->respond(json_response(body));
  }

  /// Puts an answer's calls in the place of their text.
  void add_parts(const std::string& text, Json& entry) const {
    const AnswerParts parts = answer_parts(*request_.tools, text, true);
    if (parts.calls.empty()) return;
    entry["message"]["content"] = parts.content.empty() ? Json() : Json(parts.content);
    entry["message"]["tool_calls"] = Json::array();
    for (const ToolCall& call : parts.calls) entry["message"]["tool_calls"].push_back(call_json(call));
    if (entry["finish_reason"] == "stop") entry["finish_reason"] = "tool_calls";
  }

  Json usage() const {
    return {{"prompt_tokens", prompt_tokens_},
            {"completion_tokens", completion_tokens_},
            {"total_tokens", prompt_tokens_ + completion_tokens_}};
  }

  /// llama.cpp's; of choices side by side, the longest. The first token of each comes with the prompt.
  Json timings() const {
    const auto per_second = [](size_t n, double seconds) { return seconds > 0 ? static_cast<double>(n) / seconds : 0; };
    const size_t n_timed = completion_tokens_ - std::min(completion_tokens_, choices_.size());
    return {{"prompt_n", prompt_tokens_},
            {"prompt_ms", prompt_seconds_ * 1000},
            {"prompt_per_second", per_second(prompt_tokens_, prompt_seconds_)},
            {"predicted_n", completion_tokens_},
            {"predicted_ms", decode_seconds_ * 1000},
            {"predicted_per_second", per_second(n_timed, decode_seconds_)}};
  }

  Worker& worker_;
  const GenerateRequest request_;
  const std::string model_name_;
  const std::shared_ptr<HttpExchange> exchange_;
  const std::string id_ = new_id(request_.chat ? "chatcmpl-" : "cmpl-");
  const int64_t created_ = unix_now();
  std::mutex mutex_;  // of what follows: start() may refuse while choices are at work
  std::vector<std::shared_ptr<Choice>> choices_;
  size_t left_ = 0, prompt_tokens_ = 0, completion_tokens_ = 0;
  double prompt_seconds_ = 0, decode_seconds_ = 0;
  bool begun_ = false;
  std::atomic<bool> refused_{false};
};

}  // namespace

void complete(Worker& worker, GenerateRequest request, const std::string& model_name,
              std::shared_ptr<HttpExchange> exchange) {
  std::make_shared<Completion>(worker, std::move(request), model_name, std::move(exchange))->start();
}

}  // namespace shoehorn::serve
