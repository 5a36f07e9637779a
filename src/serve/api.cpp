#include "serve/api.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

#include "engine/answer_text.h"
#include "models/model.h"
#include "serve/api_error.h"
#include "serve/chat_page.h"
#include "serve/completion.h"
#include "serve/fields.h"

namespace shoehorn::serve {
namespace {

constexpr size_t kMaxTokens = 1 << 20;

using Hash = std::array<unsigned char, 32>;

Hash hash_of(std::string_view text) {
  Hash out = {};
  EVP_Digest(text.data(), text.size(), out.data(), nullptr, EVP_sha256(), nullptr);
  return out;
}

/// "localhost" of "localhost:8080", "[::1]" of "[::1]:8080".
std::string_view host_name(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, std::min(host.size(), host.find(']') + 1));
  return host.substr(0, host.find(':'));
}

bool is_local_name(std::string_view host) {
  return host == "localhost" || host == "127.0.0.1" || host == "[::1]" || host.starts_with("127.");
}

}  // namespace

struct Api::Impl {
  using Exchange = std::shared_ptr<HttpExchange>;
  struct Route {
    std::string_view method, path;
    bool open;  ///< needs no key
    void (Impl::*handle)(const HttpRequest& request, const Exchange& exchange);
  };
  static const std::array<Route, 18> kRoutes;

  Impl(Worker& of, ApiOptions given) : worker(of), options(std::move(given)) {
    for (const std::string& key : options.api_keys) keys.push_back(hash_of(key));
    // Only what they hash to stays.
    options.api_keys.clear();
  }

  // What must hold for every request before it is looked at.

  bool has_key(const HttpRequest& request) const {
    if (keys.empty()) return true;
    constexpr std::string_view kBearer = "Bearer ";
    const std::string_view given = request.authorization.starts_with(kBearer)
                                       ? std::string_view(request.authorization).substr(kBearer.size())
                                       : std::string_view(request.api_key);
    const Hash hash = hash_of(given);
    // Every key is compared, and each in the same time.
    bool found = false;
    for (const Hash& key : keys) found |= CRYPTO_memcmp(key.data(), hash.data(), hash.size()) == 0;
    return found && !given.empty();
  }

  /// Pages of other sites may not use the server through a browser here, neither directly nor by a name of theirs that
  /// leads here.
  bool is_welcome(const HttpRequest& request) const {
    if (options.local_only && !request.host.empty() && !is_local_name(host_name(request.host))) return false;
    if (request.origin.empty() || request.origin == "http://" + request.host) return true;
    return std::ranges::any_of(options.allowed_origins,
                               [&](const std::string& origin) { return origin == "*" || origin == request.origin; });
  }

  void handle(HttpRequest request, Exchange exchange) {
    ++n_requests;
    if (!is_welcome(request))
      return exchange->respond(error_response(403, "this host or origin may not ask here", "permission_error"));
    const std::string_view path = request.path;
    const Route* found = nullptr;
    bool known = false;
    for (const Route& route : kRoutes) {
      if (route.path != path) continue;
      known = true;
      if (route.method == request.method || (request.method == "HEAD" && route.method == "GET")) found = &route;
    }
    if (!known) return exchange->respond(error_response(404, "there is nothing at this path", "not_found_error"));
    if (found == nullptr) return exchange->respond(error_response(405, "this path takes another method"));
    if (!found->open && !has_key(request)) {
      HttpResponse refused =
          error_response(401, "no or a wrong API key; it goes into the header Authorization: Bearer KEY",
                         "authentication_error", "invalid_api_key");
      refused.headers.emplace_back("WWW-Authenticate", "Bearer");
      return exchange->respond(std::move(refused));
    }
    (this->*found->handle)(request, exchange);
  }

  /// The body, or an answer that says what is wrong with it.
  static std::optional<RequestBody> body_of(const HttpRequest& request, const Exchange& exchange) {
    auto parsed = RequestBody::parse(request.body);
    if (parsed) return std::move(*parsed);
    exchange->respond(error_response(400, parsed.error().message));
    return std::nullopt;
  }

  GenerateContext context() {
    return {.tokenizer = worker.model().tokenizer(),
            .chat_template = options.chat_template,
            .tool_format = options.tool_format,
            .defaults = options.defaults,
            .adapters = options.adapters,
            .token_texts = [this] {
              std::call_once(texts_made, [this] {
                texts = std::make_shared<const grammar::TokenTexts>(worker.model().tokenizer());
              });
              return texts;
            }};
  }

  void page(const HttpRequest&, const Exchange& exchange) {
    exchange->respond({.content_type = "text/html; charset=utf-8",
                       .body = std::string(chat_page()),
                       .headers = {{"Content-Security-Policy", chat_page_policy()},
                                   {"X-Content-Type-Options", "nosniff"},
                                   {"Referrer-Policy", "no-referrer"},
                                   {"Cache-Control", "no-cache"}}});
  }

  void health(const HttpRequest&, const Exchange& exchange) { exchange->respond(json_response({{"status", "ok"}})); }

  void models(const HttpRequest&, const Exchange& exchange) {
    const models::Hparams& h = worker.model().hparams();
    exchange->respond(json_response({{"object", "list"},
                                     {"data",
                                      {{{"id", options.model_name},
                                        {"object", "model"},
                                        {"created", started},
                                        {"owned_by", "shoehorn"},
                                        {"meta",
                                         {{"n_vocab", h.n_vocab},
                                          {"n_ctx", worker.n_ctx()},
                                          {"n_ctx_train", h.n_ctx_train},
                                          {"n_embd", h.n_embd},
                                          {"n_params", models::count_parameters(worker.model().architecture(), h)},
                                          {"size", worker.model().file().file_bytes()}}}}}}}));
  }

  void adapters(const HttpRequest&, const Exchange& exchange) {
    Json out = Json::array();
    for (const engine::ScaledAdapter& each : options.adapters)
      out.push_back({{"id", out.size()}, {"path", each.adapter->path()}, {"scale", each.scale}});
    exchange->respond(json_response(out));
  }

  void props(const HttpRequest&, const Exchange& exchange) {
    const engine::SamplerOptions& s = options.defaults.sampler;
    exchange->respond(json_response({{"default_generation_settings",
                                      {{"n_ctx", worker.n_ctx()},
                                       {"temperature", s.temperature},
                                       {"top_k", s.top_k},
                                       {"top_p", s.top_p},
                                       {"min_p", s.min_p},
                                       {"repeat_penalty", s.repeat_penalty},
                                       {"n_predict", options.defaults.max_tokens}}},
                                     {"total_slots", worker.stats().sequences},
                                     {"model_path", options.model_path},
                                     {"model_alias", options.model_name},
                                     {"chat_template", worker.model().tokenizer().vocab().chat_template},
                                     {"has_chat", options.chat_template.has_value()}}));
  }

  void completions(const HttpRequest& request, const Exchange& exchange) {
    const auto body = body_of(request, exchange);
    if (!body) return;
    auto read = read_completion(*body, context());
    if (!read) return exchange->respond(error_response(400, read.error().message));
    complete(worker, std::move(*read), options.model_name, exchange);
  }

  void chat(const HttpRequest& request, const Exchange& exchange) {
    const auto body = body_of(request, exchange);
    if (!body) return;
    auto read = read_chat(*body, context());
    if (!read) return exchange->respond(error_response(400, read.error().message));
    complete(worker, std::move(*read), options.model_name, exchange);
  }

  void embeddings(const HttpRequest& request, const Exchange& exchange) {
    const auto body = body_of(request, exchange);
    if (!body) return;
    auto read = read_embedding(*body, context(), worker.model().hparams().n_embd);
    if (!read) return exchange->respond(error_response(400, read.error().message));
    embed(worker, std::move(*read), options.pooling, options.model_name, exchange);
  }

  void tokenize(const HttpRequest& request, const Exchange& exchange) {
    const auto body = body_of(request, exchange);
    if (!body) return;
    const Fields fields(body->fields);
    const auto content = fields.text("content");
    const auto special = fields.boolean("add_special"), parse = fields.boolean("parse_special"),
               pieces = fields.boolean("with_pieces");
    if (!content || !*content)
      return exchange->respond(error_response(400, content ? "content is missing" : content.error().message));
    for (const auto* flag : {&special, &parse, &pieces}) {
      if (!*flag) return exchange->respond(error_response(flag->error()));
    }
    const auto& tokenizer = worker.model().tokenizer();
    const auto ids =
        tokenizer.encode(**content, {.add_special = special->value_or(false), .parse_special = parse->value_or(true)});
    Json tokens = Json::array();
    for (const auto id : ids) {
      if (pieces->value_or(false)) {
        tokens.push_back({{"id", id}, {"piece", engine::valid_utf8(tokenizer.piece(id, true))}});
      } else {
        tokens.push_back(id);
      }
    }
    exchange->respond(json_response({{"tokens", tokens}}));
  }

  void detokenize(const HttpRequest& request, const Exchange& exchange) {
    const auto body = body_of(request, exchange);
    if (!body) return;
    const Json* tokens = Fields(body->fields).find("tokens");
    if (tokens == nullptr || !tokens->is_array() || tokens->size() > kMaxTokens)
      return exchange->respond(error_response(400, fmt::format("tokens must be a list of at most {} ids", kMaxTokens)));
    std::vector<tokenizer::Token> ids;
    for (const Json& token : *tokens) {
      if (!token.is_number_integer() || token.get<int64_t>() < 0 ||
          token.get<int64_t>() >= worker.model().tokenizer().n_vocab())
        return exchange->respond(error_response(400, "tokens: " + token.dump().substr(0, 40) + " is no token id"));
      ids.push_back(static_cast<tokenizer::Token>(token.get<int64_t>()));
    }
    exchange->respond(json_response({{"content", engine::valid_utf8(worker.model().tokenizer().decode(ids, true))}}));
  }

  void apply_template(const HttpRequest& request, const Exchange& exchange) {
    const auto body = body_of(request, exchange);
    if (!body) return;
    const auto ids = chat_ids(*body, context());
    if (!ids) return exchange->respond(error_response(400, ids.error().message));
    exchange->respond(json_response({{"prompt", engine::valid_utf8(worker.model().tokenizer().decode(*ids, true))}}));
  }

  void metrics(const HttpRequest&, const Exchange& exchange) {
    if (!options.metrics)
      return exchange->respond(error_response(501, "metrics are off; the server has them with --metrics"));
    const WorkerStats s = worker.stats();
    std::string text;
    const auto add = [&](const char* name, const char* kind, const char* help, double value) {
      text +=
          fmt::format("# HELP shoehorn:{0} {2}\n# TYPE shoehorn:{0} {1}\nshoehorn:{0} {3}\n", name, kind, help, value);
    };
    add("prompt_tokens_total", "counter", "Prompt tokens read.", static_cast<double>(s.prompt_tokens));
    add("tokens_predicted_total", "counter", "Tokens generated.", static_cast<double>(s.generated_tokens));
    add("prompt_seconds_total", "counter", "Seconds until first tokens, summed over requests.", s.prompt_seconds);
    add("tokens_predicted_seconds_total", "counter", "Seconds of generating, summed over requests.", s.decode_seconds);
    add("requests_total", "counter", "Answers that were begun.", static_cast<double>(s.requests));
    add("requests_refused_total", "counter", "Answers refused because the line was full.",
        static_cast<double>(s.refused));
    add("requests_cancelled_total", "counter", "Answers ended because the client was gone.",
        static_cast<double>(s.cancelled));
    add("requests_failed_total", "counter", "Answers that failed.", static_cast<double>(s.failed));
    add("http_requests_total", "counter", "Requests of all kinds.", static_cast<double>(n_requests.load()));
    add("requests_processing", "gauge", "Answers being computed.", static_cast<double>(s.active));
    add("requests_deferred", "gauge", "Answers in line.", static_cast<double>(s.waiting));
    exchange->respond({.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = std::move(text)});
  }

  Worker& worker;
  ApiOptions options;
  std::vector<Hash> keys;
  std::once_flag texts_made;
  std::shared_ptr<const grammar::TokenTexts> texts;
  std::atomic<uint64_t> n_requests{0};
  const int64_t started =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
};

// llama.cpp's server has some of them without /v1, too.
const std::array<Api::Impl::Route, 18> Api::Impl::kRoutes = {{
    {"GET", "/", true, &Impl::page},
    {"GET", "/health", true, &Impl::health},
    {"GET", "/v1/health", true, &Impl::health},
    {"GET", "/v1/models", true, &Impl::models},
    {"GET", "/models", true, &Impl::models},
    {"GET", "/props", false, &Impl::props},
    {"GET", "/lora-adapters", false, &Impl::adapters},
    {"GET", "/metrics", false, &Impl::metrics},
    {"POST", "/v1/completions", false, &Impl::completions},
    {"POST", "/v1/chat/completions", false, &Impl::chat},
    {"POST", "/chat/completions", false, &Impl::chat},
    {"POST", "/v1/embeddings", false, &Impl::embeddings},
    {"POST", "/embeddings", false, &Impl::embeddings},
    {"POST", "/tokenize", false, &Impl::tokenize},
    {"POST", "/detokenize", false, &Impl::detokenize},
    {"POST", "/apply-template", false, &Impl::apply_template},
    {"POST", "/v1/tokenize", false, &Impl::tokenize},
    {"POST", "/v1/detokenize", false, &Impl::detokenize},
}};

Api::Api(Worker& worker, ApiOptions options) : impl_(std::make_unique<Impl>(worker, std::move(options))) {}
Api::~Api() = default;
void Api::handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
  impl_->handle(std::move(request), std::move(exchange));
}

}  // namespace shoehorn::serve
