#include "serve/embeddings.h"

#include <openssl/evp.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>

#include "serve/api_error.h"
#include "serve/fields.h"

namespace shoehorn::serve {
namespace {

static_assert(std::endian::native == std::endian::little);

std::string base64(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // and the zero that OpenSSL writes behind it
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(n));
  return out;
}

/// All inputs of a request. Their states come on the worker's thread.
class Embedding : public std::enable_shared_from_this<Embedding> {
 public:
  Embedding(Worker& worker, EmbeddingRequest request, Pooling pooling, std::string model_name,
            std::shared_ptr<HttpExchange> exchange)
      : worker_(worker),
        request_(std::move(request)),
        pooling_(pooling),
        model_name_(std::move(model_name)),
        exchange_(std::move(exchange)) {}

  void start() {
    const size_t n = request_.inputs.size(), n_embd = worker_.model().hparams().n_embd;
    vectors_.resize(n, std::vector<double>(n_embd));
    left_ = n;
    for (size_t i = 0; i < n; ++i) {
      engine::Request request = {.prompt = request_.inputs[i], .sampler = {}, .max_tokens = 0, .adapters = request_.adapters};
      request.on_states = [self = shared_from_this(), i](std::span<const float> states) { self->add(i, states); };
      if (const Status accepted = worker_.submit(std::move(request), std::make_shared<Input>(shared_from_this()));
          !accepted) {
        fail_with(accepted.error());
        return;
      }
    }
  }

 private:
  class Input : public Sink {
   public:
    explicit Input(std::shared_ptr<Embedding> owner) : owner_(std::move(owner)) {}
    bool on_token(tokenizer::Token) override { return false; }
    void on_done(Expected<engine::Generation> result) override { owner_->on_done(std::move(result)); }
    bool gone() const override { return owner_->refused_ || owner_->exchange_->gone(); }

   private:
    const std::shared_ptr<Embedding> owner_;
  };

  void add(size_t input, std::span<const float> states) {
    std::vector<double>& vector = vectors_[input];
    for (size_t at = 0; at < states.size(); at += vector.size()) {
      for (size_t i = 0; i < vector.size(); ++i)
        vector[i] = (pooling_ == Pooling::kMean ? vector[i] : 0) + static_cast<double>(states[at + i]);
    }
  }

  void fail_with(const Error& error) {
    if (!refused_.exchange(true)) exchange_->respond(error_response(error));
  }

  void on_done(Expected<engine::Generation> result) {
    if (!result) return fail_with(result.error());
    const std::lock_guard lock(mutex_);
    n_tokens_ += result->n_prompt;
    if (--left_ > 0 || refused_) return;
    Json data = Json::array();
    for (size_t i = 0; i < vectors_.size(); ++i) {
      double square = 0;
      for (const double value : vectors_[i]) square += value * value;
      // A mean's length goes away with the number of tokens.
      const double scale = square > 0 ? 1 / std::sqrt(square) : 0;
      std::vector<float> unit;
      for (const double value : vectors_[i]) unit.push_back(static_cast<float>(value * scale));
      data.push_back(
          {{"object", "embedding"}, {"index", i}, {"embedding", request_.base64 ? Json(base64(unit)) : Json(unit)}});
    }
    exchange_->respond(json_response({{"object", "list"},
                                      {"data", std::move(data)},
                                      {"model", model_name_},
                                      {"usage", {{"prompt_tokens", n_tokens_}, {"total_tokens", n_tokens_}}}}));
  }

  Worker& worker_;
  const EmbeddingRequest request_;
  const Pooling pooling_;
  const std::string model_name_;
  const std::shared_ptr<HttpExchange> exchange_;
  std::vector<std::vector<double>> vectors_;  // each by the worker's thread alone
  std::mutex mutex_;                          // start() may refuse while inputs are at work
  size_t left_ = 0, n_tokens_ = 0;
  std::atomic<bool> refused_{false};
};

}  // namespace

Expected<EmbeddingRequest> read_embedding(const RequestBody& body, const GenerateContext& context, size_t n_embd) {
  const Fields fields(body.fields);
  EmbeddingRequest out;
  SHOEHORN_TRY(out.inputs, read_prompts(body.fields, "input", context));
  SHOEHORN_TRY(out.adapters, read_adapters(body.fields, context));
  SHOEHORN_TRY(const auto format, fields.text("encoding_format"));
  if (format && *format != "float" && *format != "base64")
    return fail(ErrorCode::kInvalid, "encoding_format must be float or base64");
  out.base64 = format == "base64";
  SHOEHORN_TRY(const auto dimensions, fields.integer("dimensions", 1, int64_t{1} << 24));
  if (dimensions && static_cast<size_t>(*dimensions) != n_embd)
    return fail(ErrorCode::kUnsupported, "dimensions: the model's vectors have {}, and no others", n_embd);
  return out;
}

void embed(Worker& worker, EmbeddingRequest request, Pooling pooling, const std::string& model_name,
           std::shared_ptr<HttpExchange> exchange) {
  std::make_shared<Embedding>(worker, std::move(request), pooling, model_name, std::move(exchange))->start();
}

}  // namespace shoehorn::serve
