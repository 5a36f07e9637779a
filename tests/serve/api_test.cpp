#include "serve/api.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <set>

#include "support/running_model.h"
#include "support/support.h"

namespace shoehorn::serve {
namespace {

/// Keeps what it is answered.
class Reply : public HttpExchange {
 public:
  void respond(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(response);
    done_ = true;
    changed_.notify_all();
  }
  void begin_stream(HttpResponse head) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(head);
  }
  bool write(std::string_view piece) override {
    const std::lock_guard lock(mutex_);
    stream_ += piece;
    ++n_pieces_;
    changed_.notify_all();
    return !gone_;
  }
  void end_stream() override {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }
  bool gone() const override { return gone_; }

  /// Waits for the end.
  HttpResponse response() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return done_; }));
    return response_;
  }
  Json json() {
    const auto parsed = parse_json(response().body);
    EXPECT_TRUE(parsed.has_value()) << response_.body;
    return parsed.value_or(Json());
  }
  /// The events of a stream, without the last, which says that it is done.
  std::vector<Json> events() {
    response();
    std::vector<Json> out;
    std::string_view left = stream_;
    while (!left.empty()) {
      const size_t end = left.find("\n\n");
      EXPECT_TRUE(left.starts_with("data: ") && end != left.npos) << left;
      const std::string_view data = left.substr(6, end - 6);
      left.remove_prefix(end + 2);
      if (data == "[DONE]") {
        EXPECT_TRUE(left.empty());
        return out;
      }
      out.push_back(*parse_json(data));
    }
    ADD_FAILURE() << "the stream has no end: " << stream_;
    return out;
  }
  void wait_for_pieces(size_t n) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return n_pieces_ >= n || done_; }));
  }
  void hang_up() { gone_ = true; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  HttpResponse response_;
  std::string stream_;
  size_t n_pieces_ = 0;
  bool done_ = false;
  std::atomic<bool> gone_{false};
};

constexpr const char* kTemplate =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}{% if add_generation_prompt "
    "%}<assistant>{% endif %}";

class ApiTest : public ::testing::Test {
 protected:
  ApiTest() {
    options_.model_name = "fable";
    options_.chat_template = *tokenizer::ChatTemplate::parse(kTemplate);
    options_.defaults.sampler.temperature = 0;
    options_.defaults.max_tokens = 16;
  }
  void start(size_t n_sequences = 2, size_t max_waiting = 64, size_t n_ctx = 256) {
    static const std::string path = test::to_gguf(test::source_dir() + "/models/fable-10m", "Q8_0");
    model_ = test::open_model(path);
    auto batch = engine::Batch::create(model_, {.n_ctx = n_ctx, .n_batch = 64, .n_threads = 1}, n_sequences);
    ASSERT_TRUE(batch.has_value()) << batch.error().message;
    worker_ = std::make_unique<Worker>(std::move(*batch), max_waiting);
    api_ = std::make_unique<Api>(*worker_, options_);
  }
  std::shared_ptr<Reply> ask(const std::string& method, const std::string& path, const std::string& body = "",
                             HttpRequest request = {}) {
    if (api_ == nullptr) start();
    request.method = method;
    request.path = path;
    request.body = body;
    if (request.host.empty()) request.host = "127.0.0.1:8080";
    auto reply = std::make_shared<Reply>();
    api_->handle(std::move(request), reply);
    return reply;
  }
  std::shared_ptr<Reply> complete(const Json& body) { return ask("POST", "/v1/completions", body.dump()); }
  std::shared_ptr<Reply> chat(const Json& body) { return ask("POST", "/v1/chat/completions", body.dump()); }
  int status_of(const std::string& path, const std::string& body) { return ask("POST", path, body)->response().status; }

  /// What a session of its own makes of a prompt.
  std::string alone(const std::vector<tokenizer::Token>& prompt, int64_t n) {
    auto session = engine::Session::create(model_, {.n_ctx = 256, .n_batch = 64, .n_threads = 1});
    engine::Sampler sampler({.temperature = 0});
    NoProgress progress;
    const auto made = engine::generate(*session, prompt, sampler, n, progress, nullptr);
    std::string text;
    for (const auto id : made->ids) text += model_->tokenizer().piece(id);
    return text;
  }

  ApiOptions options_;
  std::shared_ptr<const engine::Model> model_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Api> api_;
};

TEST_F(ApiTest, CompletesAsTheEngineDoes) {
  const Json json = complete({{"prompt", "Once upon a time"}, {"max_tokens", 12}})->json();
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["model"], "fable");
  ASSERT_EQ(json["choices"].size(), 1u);
  EXPECT_EQ(json["choices"][0]["text"], alone(model_->tokenizer().encode("Once upon a time"), 12));
  EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["completion_tokens"], 12);
  EXPECT_EQ(json["usage"]["prompt_tokens"], model_->tokenizer().encode("Once upon a time").size());
  EXPECT_EQ(json["usage"]["total_tokens"].get<int>(), json["usage"]["prompt_tokens"].get<int>() + 12);
  EXPECT_EQ(json["timings"]["predicted_n"], 12);
  EXPECT_NEAR(json["timings"]["predicted_per_second"].get<double>(),
              11 / (json["timings"]["predicted_ms"].get<double>() / 1000), 1e-3);
  EXPECT_GT(json["timings"]["prompt_ms"], 0);
}

TEST_F(ApiTest, PromptsOfAllForms) {
  const auto text_of = [&](const Json& prompt, size_t choice = 0) {
    return complete({{"prompt", prompt}, {"max_tokens", 5}})->json()["choices"][choice]["text"];
  };
  const Json text = text_of("The sun");
  const auto ids = model_->tokenizer().encode("The sun");
  EXPECT_EQ(text_of(ids), text);
  EXPECT_EQ(text_of(Json::array({ids, model_->tokenizer().encode("A dog")})), text);
  EXPECT_EQ(text_of({"A dog", "The sun"}, 1), text);
}

TEST_F(ApiTest, AChatGoesThroughTheTemplateAndBosIsNotDoubled) {
  const Json json = chat({{"messages",
                           {{{"role", "system"}, {"content", "Be brief."}},
                            {{"role", "user"},
                             {"content", {{{"type", "text"}, {"text", "Hel"}}, {{"type", "text"}, {"text", "lo"}}}}}}},
                          {"max_completion_tokens", 6}})
                        ->json();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["choices"][0]["message"]["role"], "assistant");
  const auto ids = model_->tokenizer().encode("<system>Be brief.</system><user>Hello</user><assistant>");
  EXPECT_EQ(json["usage"]["prompt_tokens"], ids.size());
  EXPECT_EQ(json["choices"][0]["message"]["content"], alone(ids, 6));
}

TEST_F(ApiTest, StreamsSayTheSameAsWholeAnswers) {
  for (const bool is_chat : {false, true}) {
    Json body = {{"max_tokens", 20}, {"n", 2}};
    if (is_chat) {
      body["messages"] = {{{"role", "user"}, {"content", "Hello"}}};
    } else {
      body["prompt"] = "Once upon";
    }
    const Json whole = (is_chat ? chat(body) : complete(body))->json();
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    const auto events = (is_chat ? chat(body) : complete(body))->events();
    std::vector<std::string> texts(2), reasons(2);
    Json usage;
    for (const Json& event : events) {
      EXPECT_EQ(event["object"], is_chat ? "chat.completion.chunk" : "text_completion");
      EXPECT_EQ(event["id"], events[0]["id"]);
      if (event["choices"].empty()) usage = event["usage"];
      for (const Json& choice : event["choices"]) {
        const auto index = choice["index"].get<size_t>();
        texts[index] += is_chat ? choice["delta"].value("content", "") : choice["text"].get<std::string>();
        if (choice["finish_reason"].is_string()) reasons[index] = choice["finish_reason"];
      }
    }
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(texts[i], is_chat ? whole["choices"][i]["message"]["content"] : whole["choices"][i]["text"]);
      EXPECT_EQ(reasons[i], "length");
    }
    EXPECT_EQ(usage, whole["usage"]);
    EXPECT_GT(events.size(), 10u) << "it comes in pieces";
  }
}

TEST_F(ApiTest, StopsEndAnAnswerAndAreNotPartOfIt) {
  const std::string text = complete({{"prompt", "Once upon a time"}, {"max_tokens", 30}})->json()["choices"][0]["text"];
  ASSERT_GT(text.size(), 30u);
  const std::string stop = text.substr(11, 5);
  const std::string expected = text.substr(0, text.find(stop));
  const Json json =
      complete({{"prompt", "Once upon a time"}, {"max_tokens", 30}, {"stop", {"never said", stop}}})->json();
  EXPECT_EQ(json["choices"][0]["text"], expected);
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  std::string streamed;
  for (const Json& event :
       complete({{"prompt", "Once upon a time"}, {"max_tokens", 30}, {"stop", stop}, {"stream", true}})->events())
    streamed += event["choices"][0]["text"];
  EXPECT_EQ(streamed, expected);
}

TEST_F(ApiTest, SeedsBiasAndLogprobs) {
  const Json drawn = {{"prompt", "Once"}, {"temperature", 1.5}, {"seed", 7}, {"n", 2}, {"max_tokens", 12}};
  const Json first = complete(drawn)->json(), again = complete(drawn)->json();
  EXPECT_EQ(first["choices"], again["choices"]);
  EXPECT_NE(first["choices"][0]["text"], first["choices"][1]["text"]) << "choices have seeds of their own";

  const Json plain = complete({{"prompt", "Once"}, {"max_tokens", 3}, {"logprobs", 3}})->json();
  const Json& logprobs = plain["choices"][0]["logprobs"];
  ASSERT_EQ(logprobs["tokens"].size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(logprobs["top_logprobs"][i].size(), 3u);
    // Greedy: what was drawn is the most likely.
    float best = -100;
    for (const auto& [token, value] : logprobs["top_logprobs"][i].items()) best = std::max(best, value.get<float>());
    EXPECT_EQ(logprobs["token_logprobs"][i].get<float>(), best);
    EXPECT_LT(best, 0);
  }
  // What is forbidden is not said.
  const auto banned =
      model_->tokenizer().encode(plain["choices"][0]["text"].get<std::string>(), {.add_special = false}).front();
  const Json other =
      complete({{"prompt", "Once"}, {"max_tokens", 3}, {"logit_bias", Json{{std::to_string(banned), -100}}}})->json();
  EXPECT_NE(other["choices"][0]["text"], plain["choices"][0]["text"]);
  const Json talk = chat({{"messages", {{{"role", "user"}, {"content", "Hello"}}}},
                          {"max_tokens", 2},
                          {"logprobs", true},
                          {"top_logprobs", 2}})
                        ->json();
  ASSERT_EQ(talk["choices"][0]["logprobs"]["content"].size(), 2u);
  EXPECT_EQ(talk["choices"][0]["logprobs"]["content"][0]["top_logprobs"].size(), 2u);
}

TEST_F(ApiTest, WhatMakesNoSenseIsTheClientsFault) {
  for (
      const char* body :
      {"",
       "[]",
       "{",
       "{}",
       R"({"prompt":5})",
       R"({"prompt":[]})",
       R"({"prompt":["a",5]})",
       R"({"prompt":[-1]})",
       R"({"prompt":[99999999]})",
       R"({"prompt":"a","max_tokens":-5})",
       R"({"prompt":"a","max_tokens":"many"})",
       R"({"prompt":"a","max_tokens":1.5})",
       R"({"prompt":"a","max_tokens":1e300})",
       R"({"prompt":"a","n":0})",
       R"({"prompt":"a","n":1000000})",
       R"({"prompt":"a","temperature":-1})",
       R"({"prompt":"a","temperature":"hot"})",
       R"({"prompt":"a","top_p":2})",
       R"({"prompt":"a","stop":5})",
       R"({"prompt":"a","stop":["a",1]})",
       R"({"prompt":"a","stop":""})",
       R"({"prompt":"a","stream":"yes"})",
       R"({"prompt":"a","logit_bias":{"x":1}})",
       R"({"prompt":"a","logit_bias":{"1":1000}})",
       R"({"prompt":"a","logprobs":99})",
       R"({"prompt":"a","seed":-2})",
       R"({"prompt":"a","response_format":{"type":"xml"}})",
       R"({"prompt":"a","response_format":"json_object"})",
       R"({"prompt":"a","response_format":{"type":"json_schema"}})",
       R"({"prompt":"a","response_format":{"type":"json_schema","json_schema":{"schema":{"not":{}}}}})",
       R"({"prompt":"a","json_schema":{"type":"nonsense"}})",
       R"({"prompt":"a","json_schema":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}})",
       R"({"prompt":"a","grammar":"root ::= ["})",
       R"({"prompt":"a","grammar":"root ::= root \"a\" | \"b\""})",
       R"({"prompt":"a","grammar":"root ::= (\"a\"{60000}){60000} \"b\"{60000} \"c\"{60000} \"d\"{60000} \"e\"{60000} \"f\"{60000} \"g\"{60000} \"h\"{60000} \"i\"{60000}"})",
       R"({"prompt":"a","grammar":5})",
       R"({"prompt":"a","grammar":"root ::= \"a\"","json_schema":{}})",
       "{\"prompt\":\"\xff\"}"}) {
    EXPECT_EQ(status_of("/v1/completions", body), 400) << body;
  }
  for (const char* body :
       {"{}", R"({"messages":[]})", R"({"messages":"hello"})", R"({"messages":[{"content":"a"}]})",
        R"({"messages":[{"role":"user","content":5}]})",
        R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]})",
        R"({"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function"}]})",
        R"({"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}]})",
        R"({"messages":[{"role":"user","content":"a"}],"tool_choice":"required"})",
        R"({"messages":[{"role":"user","content":"a"}],"tool_choice":5})",
        R"({"messages":[{"role":"user","content":"a"}],"top_logprobs":2})"}) {
    EXPECT_EQ(status_of("/v1/chat/completions", body), 400) << body;
  }
  std::string deep(100'000, '[');
  EXPECT_EQ(status_of("/v1/completions", deep), 400);
  EXPECT_EQ(status_of("/v1/completions", R"({"prompt":)" + deep), 400);
  // More than the context holds, with the numbers.
  const auto large = complete({{"prompt", std::vector<int>(300, 5)}});
  EXPECT_EQ(large->response().status, 400);
  EXPECT_NE(large->response().body.find("256"), std::string::npos);
  EXPECT_EQ(complete({{"prompt", "a"}, {"max_tokens", 1}})->response().status, 200) << "the server is alive";
}

TEST_F(ApiTest, AnswersHaveTheFormThatIsAskedFor) {
  const Json schema = Json::parse(
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer","minimum":1,"maximum":99}},"required":["name","age"]})");
  for (const Json& form :
       {Json{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "person"}, {"schema", schema}}}}}},
        Json{{"json_schema", schema}}}) {
    for (const double temperature : {0.0, 1.5}) {
      Json body = {{"messages", {{{"role", "user"}, {"content", "Who?"}}}},
                   {"max_tokens", 200},
                   {"temperature", temperature},
                   {"seed", 3}};
      body.update(form);
      const Json choice = chat(body)->json()["choices"][0];
      EXPECT_EQ(choice["finish_reason"], "stop");
      const Json said = Json::parse(choice["message"]["content"].get<std::string>(), nullptr, false);
      ASSERT_TRUE(said.is_object()) << choice;
      EXPECT_EQ(said.size(), 2u);
      EXPECT_LE(said["age"], 99);
    }
  }
  const Json any = chat({{"messages", {{{"role", "user"}, {"content", "Who?"}}}},
                         {"max_tokens", 4},
                         {"response_format", {{"type", "json_object"}}}})
                       ->json();
  EXPECT_EQ(any["choices"][0]["message"]["content"].get<std::string>()[0], '{');
  const Json count =
      complete({{"prompt", "One"}, {"grammar", "root ::= \"a\"{7}"}, {"max_tokens", 50}, {"n", 2}, {"temperature", 2}})
          ->json();
  for (const Json& choice : count["choices"]) {
    EXPECT_EQ(choice["text"], "aaaaaaa");
    EXPECT_EQ(choice["finish_reason"], "stop");
  }
  // Nothing of it stays behind.
  EXPECT_EQ(complete({{"prompt", "Once upon a time"}, {"max_tokens", 12}})->json()["choices"][0]["text"],
            alone(model_->tokenizer().encode("Once upon a time"), 12));
}

TEST_F(ApiTest, AdaptersAreChosenByTheRequest) {
  start();
  // One matrix, far from nothing.
  const io::GgufTensor* tensor = model_->file().find("blk.2.ffn_down.weight");
  ASSERT_NE(tensor, nullptr);
  io::GgufWriter writer;
  writer.set("general.type", std::string("adapter"));
  writer.set("general.architecture", std::string(model_->architecture().name));
  writer.set("adapter.type", std::string("lora"));
  writer.set("adapter.lora.alpha", 64.0f);
  ASSERT_TRUE(writer.add_tensor("blk.2.ffn_down.weight.lora_a", quant::Type::F32, {tensor->n_cols(), 1}));
  ASSERT_TRUE(writer.add_tensor("blk.2.ffn_down.weight.lora_b", quant::Type::F32, {1, tensor->n_rows()}));
  const std::string path = test::temp_dir() + "/a.gguf";
  ASSERT_TRUE(writer.begin(path));
  for (const uint64_t n : {tensor->n_cols(), tensor->n_rows()}) {
    std::vector<float> values(n);
    for (size_t i = 0; i < n; ++i) values[i] = i % 3 == 0 ? 1.0f : -0.5f;
    ASSERT_TRUE(writer.append(std::as_bytes(std::span(values))));
  }
  ASSERT_TRUE(writer.commit());
  const std::string plain = alone(model_->tokenizer().encode("The sun"), 10);
  ASSERT_EXPECTED(auto adapter, engine::Adapter::open(path, model_));
  options_.adapters = {{adapter, 1.0f}};
  api_ = std::make_unique<Api>(*worker_, options_);
  const auto text_with = [&](const Json& fields) {
    Json body = {{"prompt", "The sun"}, {"max_tokens", 10}};
    body.update(fields);
    return complete(body)->json()["choices"][0]["text"];
  };
  const Json adapted = text_with(Json::object());
  EXPECT_NE(adapted, plain);
  EXPECT_EQ(text_with({{"lora", Json::array()}}), plain) << "nor what was computed with it";
  EXPECT_EQ(text_with({{"lora", {{{"id", 0}, {"scale", 1}}}}}), adapted);
  EXPECT_EQ(text_with({{"lora", {{{"id", 0}, {"scale", 0}}}}}), plain);
  const Json list = ask("GET", "/lora-adapters")->json();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0], Json({{"id", 0}, {"path", path}, {"scale", 1.0f}}));
  for (const char* wrong :
       {R"({"prompt":"a","lora":5})", R"({"prompt":"a","lora":[{"id":1}]})", R"({"prompt":"a","lora":[{"scale":1}]})",
        R"({"prompt":"a","lora":[{"id":0,"scale":1e9}]})"})
    EXPECT_EQ(status_of("/v1/completions", wrong), 400) << wrong;
}

TEST_F(ApiTest, EmbeddingsAreTheMeanOfTheStates) {
  start();
  const auto embed = [&](const Json& body) { return ask("POST", "/v1/embeddings", body.dump())->json(); };
  const std::string text = "Once upon a time there was a king.";
  std::string longer;
  for (int i = 0; i < 20; ++i) longer += text + " ";
  const Json json = embed({{"input", {text, longer}}, {"encoding_format", "float"}});
  ASSERT_EQ(json["data"].size(), 2u);
  auto session = engine::Session::create(model_, {.n_ctx = 256, .n_batch = 256, .n_threads = 1});
  const size_t n_embd = model_->hparams().n_embd;
  size_t n_tokens = 0;
  for (const size_t i : {0u, 1u}) {
    const auto ids = model_->tokenizer().encode(i == 0 ? text : longer);
    n_tokens += ids.size();
    std::vector<float> x(ids.size() * n_embd), states(x.size());
    session->embed(ids, x.data());
    for (size_t layer = 0; layer < model_->hparams().n_layer; ++layer)
      session->run_layer(layer, {.x = x.data(), .n_past = 0, .n = ids.size(), .n_out = ids.size()});
    session->norm_output(x.data(), ids.size(), states.data());
    std::vector<double> mean(n_embd);
    for (size_t at = 0; at < states.size(); ++at) mean[at % n_embd] += static_cast<double>(states[at]);
    double square = 0, product = 0;
    for (const double value : mean) square += value * value;
    const auto got = json["data"][i]["embedding"].get<std::vector<double>>();
    ASSERT_EQ(got.size(), n_embd);
    double length = 0;
    for (size_t k = 0; k < n_embd; ++k) {
      product += got[k] * mean[k] / std::sqrt(square);
      length += got[k] * got[k];
    }
    EXPECT_NEAR(length, 1, 1e-5);
    EXPECT_NEAR(product, 1, 1e-5) << "of other vectors";
    EXPECT_EQ(json["data"][i]["index"], i);
  }
  EXPECT_EQ(json["usage"]["prompt_tokens"], n_tokens);
  // The same as ids, and as base64 of its floats.
  EXPECT_EQ(embed({{"input", model_->tokenizer().encode(text)}})["data"][0]["embedding"], json["data"][0]["embedding"]);
  const std::string base64 = embed({{"input", text}, {"encoding_format", "base64"}})["data"][0]["embedding"];
  EXPECT_EQ(base64.size(), (n_embd * 4 + 2) / 3 * 4);
  for (const char* wrong : {"{}", R"({"input":[]})", R"({"input":5})", R"({"input":"a","encoding_format":"hex"})",
                            R"({"input":"a","dimensions":3})"})
    EXPECT_EQ(status_of("/v1/embeddings", wrong), 400) << wrong;
  // Texts in between are answered as ever.
  EXPECT_EQ(complete({{"prompt", "Once upon a time"}, {"max_tokens", 12}})->json()["choices"][0]["text"],
            alone(model_->tokenizer().encode("Once upon a time"), 12));
}

TEST_F(ApiTest, ToolsAreCalled) {
  const char* source =
      "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% "
      "for c in m.tool_calls or [] %}{{ c.function.arguments.x }}{% endfor %}</{{ m.role }}>{% endfor %}<assistant>";
  options_.chat_template = *tokenizer::ChatTemplate::parse(source);
  options_.tool_format = tool_format_of(source);
  ASSERT_NE(options_.tool_format, nullptr);
  const Json tools = Json::parse(
      R"([{"type":"function","function":{"name":"add","parameters":{"type":"object","properties":{"x":{"type":"integer","maximum":9,"minimum":0}},"required":["x"]}}},
                                     {"type":"function","function":{"name":"stop"}}])");
  Json body = {{"messages", {{{"role", "user"}, {"content", "Go"}}}},
               {"tools", tools},
               {"tool_choice", "required"},
               {"max_tokens", 100}};
  const Json choice = chat(body)->json()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls") << choice;
  ASSERT_EQ(choice["message"]["tool_calls"].size(), 1u) << choice;
  EXPECT_TRUE(choice["message"]["content"].is_null());
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "add"}}}};
  const Json named = chat(body)->json()["choices"][0]["message"]["tool_calls"][0];
  EXPECT_EQ(named["type"], "function");
  EXPECT_EQ(named["function"]["name"], "add");
  const Json arguments = Json::parse(named["function"]["arguments"].get<std::string>());
  EXPECT_LE(arguments["x"], 9);
  // Streamed it is the same.
  body["stream"] = true;
  Json call;
  std::string content, reason;
  for (const Json& event : chat(body)->events()) {
    const Json& part = event["choices"][0];
    content += json_or(part["delta"], "content", std::string());
    if (part["delta"].contains("tool_calls")) call = part["delta"]["tool_calls"][0];
    if (!part["finish_reason"].is_null()) reason = part["finish_reason"];
  }
  EXPECT_EQ(call["function"], named["function"]);
  EXPECT_EQ(call["index"], 0);
  EXPECT_EQ(content, "");
  EXPECT_EQ(reason, "tool_calls");
  // A model that does not care to call answers as always.
  body["stream"] = false;
  body["tool_choice"] = "auto";
  body["max_tokens"] = 8;
  EXPECT_EQ(chat(body)->json()["choices"][0]["finish_reason"], "length");
  // Earlier calls reach the template as objects, tools in their order.
  body["messages"].push_back(
      {{"role", "assistant"},
       {"content", ""},
       {"tool_calls",
        {{{"id", "1"}, {"type", "function"}, {"function", {{"name", "add"}, {"arguments", "{\"x\": 7}"}}}}}}});
  const std::string prompt = ask("POST", "/apply-template", body.dump())->json()["prompt"];
  EXPECT_NE(prompt.find("<assistant>7</assistant>"), std::string::npos) << prompt;
  EXPECT_NE(prompt.find("\"add\""), std::string::npos) << prompt;
  for (const char* choice_of : {"none", "auto"}) {
    body["tool_choice"] = choice_of;
    const std::string shown = ask("POST", "/apply-template", body.dump())->json()["prompt"];
    EXPECT_EQ(shown.find("\"add\"") != std::string::npos, std::string_view(choice_of) == "auto");
  }
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "subtract"}}}};
  EXPECT_EQ(chat(body)->response().status, 400);
}

TEST_F(ApiTest, PathsMethodsAndErrorsAreOpenAis) {
  EXPECT_EQ(ask("GET", "/health")->json()["status"], "ok");
  EXPECT_EQ(ask("GET", "/v1/models")->json()["data"][0]["id"], "fable");
  const auto nothing = ask("GET", "/v1/nothing");
  EXPECT_EQ(nothing->response().status, 404);
  EXPECT_TRUE(nothing->json()["error"]["message"].is_string());
  EXPECT_EQ(ask("GET", "/v1/completions")->response().status, 405);
  EXPECT_EQ(ask("GET", "/metrics")->response().status, 501);
  const Json tokens = ask("POST", "/tokenize", R"({"content":"Once upon","add_special":true})")->json()["tokens"];
  EXPECT_EQ(tokens, Json(model_->tokenizer().encode("Once upon")));
  EXPECT_EQ(ask("POST", "/detokenize",
                Json{{"tokens", model_->tokenizer().encode("Once upon", {.add_special = false})}}.dump())
                ->json()["content"],
            "Once upon");
  EXPECT_EQ(status_of("/detokenize", R"({"tokens":[-1]})"), 400);
}

TEST_F(ApiTest, ThePageIsServedAsItIs) {
  options_.api_keys = {"secret"};
  const HttpResponse page = ask("GET", "/")->response();
  EXPECT_EQ(page.status, 200) << "the page itself has no secrets";
  EXPECT_EQ(page.body, test::read_text(test::source_dir() + "/web/page.html"));
  const auto policy =
      std::ranges::find(page.headers, "Content-Security-Policy", &std::pair<std::string, std::string>::first);
  ASSERT_NE(policy, page.headers.end());
  EXPECT_TRUE(policy->second.starts_with("default-src 'none'; script-src 'sha256-")) << policy->second;
  EXPECT_TRUE(policy->second.ends_with("frame-ancestors 'none'")) << policy->second;
}

TEST_F(ApiTest, KeysAreAskedFor) {
  options_.api_keys = {"one", "two"};
  EXPECT_EQ(ask("GET", "/health")->response().status, 200);
  EXPECT_EQ(complete({{"prompt", "a"}})->response().status, 401);
  HttpRequest with;
  for (const char* wrong : {"Bearer three", "Bearer ", "one", "Bearer one "}) {
    with.authorization = wrong;
    EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"a"})", with)->response().status, 401) << wrong;
  }
  with.authorization = "Bearer two";
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":1})", with)->response().status, 200);
}

TEST_F(ApiTest, OtherSitesPagesMayNotAsk) {
  HttpRequest from;
  from.host = "evil.example:8080";
  EXPECT_EQ(ask("GET", "/health", "", from)->response().status, 403) << "a name that leads here is not ours";
  from.host = "localhost:8080";
  EXPECT_EQ(ask("GET", "/health", "", from)->response().status, 200);
  from.origin = "http://evil.example";
  EXPECT_EQ(ask("GET", "/health", "", from)->response().status, 403);
  from.origin = "http://localhost:8080";
  EXPECT_EQ(ask("GET", "/health", "", from)->response().status, 200);
}

TEST_F(ApiTest, AFullLineIsSaid) {
  start(1, 1);
  const Json body = {{"prompt", "Once"}, {"max_tokens", 200}, {"stream", true}, {"logit_bias", Json{{"0", -100}}}};
  const auto first = complete(body);
  first->wait_for_pieces(1);
  const auto second = complete(body), third = complete({{"prompt", "a"}});
  EXPECT_EQ(third->response().status, 503);
  ASSERT_FALSE(third->response().headers.empty());
  EXPECT_EQ(third->response().headers[0].first, "Retry-After");
  first->hang_up();
  second->hang_up();
  // Those who hang up make room.
  for (int i = 0; i < 200; ++i) {
    if (complete({{"prompt", "a"}, {"max_tokens", 1}})->response().status == 200) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(worker_->stats().cancelled, 2u);
  EXPECT_LT(worker_->stats().generated_tokens, 100u);
}

TEST_F(ApiTest, ManyAtOnceAreEachAnsweredAsAlone) {
  start(4);
  std::vector<std::shared_ptr<Reply>> replies;
  std::vector<std::string> prompts;
  for (int i = 0; i < 12; ++i) {
    prompts.push_back("Story number " + std::to_string(i) + ":");
    replies.push_back(complete({{"prompt", prompts.back()}, {"max_tokens", 10}}));
  }
  for (size_t i = 0; i < replies.size(); ++i) {
    EXPECT_EQ(replies[i]->json()["choices"][0]["text"], alone(model_->tokenizer().encode(prompts[i]), 10));
  }
}

}  // namespace
}  // namespace shoehorn::serve
