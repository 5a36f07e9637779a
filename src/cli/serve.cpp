#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>

#include "base/output_file.h"
#include "base/sandbox.h"
#include "cli/adapter_flags.h"
#include "cli/command.h"
#include "cli/session_flags.h"
#include "serve/api.h"

namespace shoehorn::cli {
namespace {

struct Options {
  SessionFlags session;
  serve::HttpOptions http;
  serve::ApiOptions api;
  std::string key_file, chat_template, chat_template_file;
  AdapterFlags adapters;
  size_t n_parallel = 4, max_waiting = 64;
  bool sandbox = true;
};

/// Where what is to be loaded lies, also behind links: the hub's cache is made of them.
std::vector<std::string> directories_of(const Options& o) {
  namespace fs = std::filesystem;
  std::vector<std::string> files = o.adapters.paths, out;
  for (const auto& [path, scale] : o.adapters.scaled) files.push_back(path);
  for (const std::string& path : {o.session.model_path, o.key_file, o.chat_template_file}) {
    if (!path.empty()) files.push_back(path);
  }
  std::error_code error;
  if (fs::is_directory(o.session.model_path, error)) {
    out.push_back(o.session.model_path);
    for (fs::directory_iterator it(o.session.model_path, error), end; !error && it != end; it.increment(error))
      files.push_back(it->path().string());
  }
  for (const std::string& file : files) {
    std::error_code missing;
    out.push_back(fs::absolute(file, missing).parent_path().string());
    if (const fs::path target = fs::canonical(file, missing); !missing) out.push_back(target.parent_path().string());
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Status serve_model(Options o) {
  if (o.sandbox) SHOEHORN_RETURN_IF_ERROR(enter_reading_sandbox(directories_of(o)));
  SHOEHORN_TRY(const auto session, o.session.session_options());
  SHOEHORN_TRY(const auto model, o.session.open_model(o.session.model_path));
  SHOEHORN_TRY(o.api.adapters, o.adapters.open(model));
  SHOEHORN_TRY(auto batch, engine::Batch::create(model, session, o.n_parallel));
  if (!o.key_file.empty()) {
    SHOEHORN_TRY(const std::string text, read_file(o.key_file, 1 << 20));
    for (const std::string& line : CLI::detail::split(text, '\n')) {
      if (!line.empty()) o.api.api_keys.push_back(CLI::detail::trim_copy(line));
    }
  }
  if (!o.chat_template_file.empty()) {
    SHOEHORN_TRY(o.chat_template, read_file(o.chat_template_file, 1 << 20));
  }
  const std::string& source = o.chat_template.empty() ? model->tokenizer().vocab().chat_template : o.chat_template;
  if (!source.empty()) {
    auto parsed = tokenizer::ChatTemplate::parse(source);
    if (parsed) {
      o.api.chat_template = std::move(*parsed);
      o.api.tool_format = serve::tool_format_of(source);
    } else if (!o.chat_template.empty()) {
      return annotate(std::move(parsed).error(), "--chat-template");
    } else {
      remark("the model's " + parsed.error().message + "; /v1/chat/completions will refuse");
    }
  }
  if (o.api.model_name.empty()) o.api.model_name = std::filesystem::path(o.session.model_path).filename().string();
  o.api.model_path = o.session.model_path;
  o.api.local_only = o.http.host == "localhost" || o.http.host == "::1" || o.http.host.starts_with("127.");
  if (!o.api.local_only && o.api.api_keys.empty())
    remark(fmt::format("anybody who reaches {} may use this server: --api-key asks for a key", o.http.host));
  serve::Worker worker(std::move(batch), o.max_waiting);
  serve::Api api(worker, o.api);
  clear_interrupt();
  SHOEHORN_TRY(const auto server, serve::HttpServer::listen(o.http, [&](auto request, auto exchange) {
                 api.handle(std::move(request), std::move(exchange));
               }));
  if (o.sandbox) {
    SHOEHORN_TRY(const Sandbox sandbox, enter_serving_sandbox());
    if (!sandbox.files) remark("this kernel offers no sandbox: a mistake in this program would let clients do what you may do");
  }
  remark(fmt::format("listening on http://{}:{} with {} sequences of {} tokens; a browser finds a chat there, Ctrl-C ends it", o.http.host,
                     server->port(), o.n_parallel, worker.n_ctx()));
  while (!interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  remark("ending; answers that have begun get 5 seconds");
  server->stop(std::chrono::seconds(5));
  return {};
}

}  // namespace

std::function<Status()> define_serve(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  o->session.add_to(app, 0, "Context of each sequence in tokens (default: the trained one, at most 4096)");
  app.add_option("--host", o->http.host, "Address to listen on; 0.0.0.0: all networks of this machine")
      ->capture_default_str();
  app.add_option("--port", o->http.port, "Port; 0: any free one")->capture_default_str();
  app.add_option("--parallel", o->n_parallel, "Answers computed side by side (also -np)")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--max-waiting", o->max_waiting, "Requests in line at most; further ones are answered 503")
      ->capture_default_str();
  app.add_option("--api-key", o->api.api_keys, "A key that requests must have; repeatable");
  app.add_option("--api-key-file", o->key_file, "File with a key a line");
  app.add_option("--alias", o->api.model_name, "What the model is called (default: its file's name; also -a)");
  app.add_option("--chat-template", o->chat_template, "Jinja template in place of the model's");
  app.add_option("--chat-template-file", o->chat_template_file, "The same from a file")->excludes("--chat-template");
  app.add_option("--allow-origin", o->api.allowed_origins, "Pages of this origin may ask, *: all; repeatable");
  o->adapters.add_to(app);
  app.add_option("--pooling", o->api.pooling, "How /v1/embeddings makes one vector of a text's tokens")
      ->transform(CLI::CheckedTransformer(std::map<std::string, serve::Pooling>{{"mean", serve::Pooling::kMean}, {"last", serve::Pooling::kLast}}))
      ->default_str("mean");
  app.add_flag("!--no-sandbox", o->sandbox,
               "Keep the right to open files, start programs and connect to elsewhere, which a server that has loaded its model does not need");
  app.add_flag("--metrics", o->api.metrics, "Counters for Prometheus at /metrics");
  app.add_option("--threads-http", o->http.n_threads, "Threads of the network")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("-n,--predict,--n-predict", o->api.defaults.max_tokens,
                 "Tokens of an answer where the request says nothing, -1: until the context is full")
      ->capture_default_str();
  engine::SamplerOptions& s = o->api.defaults.sampler;
  app.add_option("--temp", s.temperature, "Temperature where the request says nothing")->capture_default_str();
  app.add_option("--top-k", s.top_k, "The same of top_k")->capture_default_str();
  app.add_option("--top-p", s.top_p, "The same of top_p")->capture_default_str();
  app.add_option("--min-p", s.min_p, "The same of min_p")->capture_default_str();
  app.footer(
      "Examples:\n"
      "  shoehorn serve -m model.gguf\n"
      "  shoehorn serve -m model.gguf --lora pirate.gguf --lora poet.gguf     requests choose: \"lora\": [{\"id\": 1, \"scale\": 0.5}]\n"
      "  shoehorn serve -m model.gguf --host 0.0.0.0 --port 8080 --api-key secret -np 8 -c 8192 --metrics\n"
      "A browser finds a chat at http://127.0.0.1:8080, OpenAI's clients find it at http://127.0.0.1:8080/v1.");
  return [o] { return serve_model(*o); };
}

}  // namespace shoehorn::cli
