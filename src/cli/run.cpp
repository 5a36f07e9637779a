#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>

#include "base/output_file.h"
#include "cli/chat.h"
#include "cli/adapter_flags.h"
#include "cli/command.h"
#include "cli/grammar_flags.h"
#include "cli/prompt_cache.h"
#include "cli/run_prompts.h"
#include "cli/session_flags.h"
#include "engine/generate.h"

namespace shoehorn::cli {
namespace {

constexpr uint64_t kMaxPromptBytes = uint64_t{64} << 20;

struct Options {
  SessionFlags session;
  std::string prompt, file;
  ChatOptions chat;
  RunPromptsOptions prompts;
  int64_t n_predict = -1;
  int64_t seed = -1;
  engine::SamplerOptions sampler;
  GrammarFlags grammar;
  AdapterFlags adapters;
  bool prompt_cache_all = false;
  bool conversation = false, no_conversation = false, no_display_prompt = false, no_escape = false, json = false;
};

/// \n, \t, \\, \" and \' as llama.cpp reads them in -p.
std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      case '\'': out += '\''; break;
      case '"': out += '"'; break;
      case '\\': out += '\\'; break;
      default: out += '\\'; out += text[i];
    }
  }
  return out;
}

using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

/// When loading began and when it was done.
struct LoadTimes {
  Clock::time_point start, end;
};

Status complete(const Options& o, engine::Session& session, const std::string& prompt, const LoadTimes& load) {
  const auto& tokenizer = session.model().tokenizer();
  const auto ids = tokenizer.encode(prompt);
  if (ids.empty()) return fail(ErrorCode::kInvalid, "the prompt is empty; give one with -p or -f");
  if (ids.size() >= session.n_ctx()) {
    return fail(ErrorCode::kTooLarge, "the prompt has {} tokens, the context {}; use a larger -c or a shorter prompt", ids.size(),
                session.n_ctx());
  }
  PromptCache cache(o.chat.prompt_cache, o.chat.prompt_cache_ro);
  const auto kept = cache.load(session);
  const size_t n_kept = held_of(ids, kept);
  session.truncate(n_kept);
  engine::Sampler sampler(o.sampler);
  const bool stream = !o.json;
  if (stream && !o.no_display_prompt) std::fputs(tokenizer.decode(ids).c_str(), stdout);
  std::fflush(stdout);
  const auto progress = make_progress();
  std::optional<double> first_ms;
  SHOEHORN_TRY(const auto result, engine::generate(session, std::span(ids).subspan(n_kept), sampler, o.n_predict, *progress, [&](tokenizer::Token token) {
                 if (!first_ms) first_ms = ms_between(load.start, Clock::now());
                 if (stream) {
                   const std::string piece = tokenizer.piece(token);
                   std::fwrite(piece.data(), 1, piece.size(), stdout);
                   std::fflush(stdout);
                 }
                 return !interrupted();
               }));
  std::vector<tokenizer::Token> held = ids;
  held.insert(held.end(), result.ids.begin(), result.ids.end());
  session.truncate(o.prompt_cache_all ? session.n_past() : ids.size());
  held.resize(session.n_past());
  SHOEHORN_RETURN_IF_ERROR(cache.save(session, held));
  if (o.json) {
    std::string text;
    for (const auto id : result.ids) text += tokenizer.piece(id);
    print_json({{"prompt_ids", ids},
                {"ids", result.ids},
                {"text", text},
                {"gaps", result.top2_gaps},
                {"stop", engine::stop_reason_name(result.stop)},
                {"cached_tokens", n_kept},
                {"load_ms", ms_between(load.start, load.end)},
                {"prompt_ms", result.prompt_seconds * 1000},
                {"ttft_ms", first_ms ? Json(*first_ms) : Json()},
                {"prompt_tokens_per_second", result.prompt_tokens_per_second()},
                {"tokens_per_second", result.tokens_per_second()}});
    return {};
  }
  std::fputc('\n', stdout);
  if (result.stop == engine::StopReason::kContextFull) {
    remark(fmt::format("stopped: the context of {} tokens is full (-c)", session.n_ctx()));
  }
  if (result.stop == engine::StopReason::kStuck) remark("stopped: the model has no token that the grammar goes on with");
  remark(fmt::format("\nloaded in {:.0f} ms, first token after {:.0f} ms; prompt {} tokens, {}{:.1f} tok/s; generated {} tokens, "
                     "{:.1f} tok/s",
                     ms_between(load.start, load.end), first_ms.value_or(ms_between(load.start, Clock::now())), result.n_prompt,
                     n_kept > 0 ? fmt::format("{} more from the cache, ", n_kept) : "", result.prompt_tokens_per_second(), result.ids.size(), result.tokens_per_second()));
  return {};
}

Status run(Options o, bool has_prompt) {
  if (!o.file.empty()) {
    SHOEHORN_TRY(o.prompt, read_file(o.file, kMaxPromptBytes));
    has_prompt = true;
  } else if (!o.no_escape) {
    o.prompt = unescape(o.prompt);
  }
  // Without a seed every run differs, as in llama.cpp.
  o.sampler.seed = o.seed >= 0 ? static_cast<uint32_t>(o.seed) : std::random_device()();
  if (!o.prompts.path.empty()) {
    o.prompts.chat = !o.no_conversation;
    o.prompts.system = o.chat.system;
    o.prompts.template_override = o.chat.template_override;
    o.prompts.n_predict = o.n_predict;
    o.prompts.sampler = o.sampler;
    o.prompts.grammar = o.grammar;
    o.prompts.adapters = o.adapters;
    return run_prompts(o.session, o.prompts);
  }
  LoadTimes load = {.start = Clock::now(), .end = {}};
  SHOEHORN_TRY(auto session, o.session.open());
  SHOEHORN_TRY(auto adapters, o.adapters.open(session.shared_model()));
  session.adapt(std::move(adapters));
  load.end = Clock::now();
  SHOEHORN_TRY(o.sampler.grammar, o.grammar.open(session.model().tokenizer()));
  if (session.n_ctx() > session.model().hparams().n_ctx_train) {
    remark(fmt::format("the model was trained on {} tokens of context, {} are asked for; quality falls beyond",
                       session.model().hparams().n_ctx_train, session.n_ctx()));
  }
  const bool has_template = !session.model().tokenizer().vocab().chat_template.empty() || !o.chat.template_override.empty();
  const bool chat = o.conversation || (!o.no_conversation && !o.json && has_template);
  if (!chat) {
    if (!has_prompt) return fail(ErrorCode::kInvalid, "no prompt; give one with -p or -f");
    return complete(o, session, o.prompt, load);
  }
  if (!has_template) {
    return fail(ErrorCode::kInvalid, "{} has no chat template; use -no-cnv to complete text or give --chat-template",
                o.session.model_path);
  }
  o.chat.n_predict = o.n_predict;
  o.chat.sampler = o.sampler;
  if (has_prompt) o.chat.first_message = o.prompt;
  return chat_loop(session, o.chat);
}

}  // namespace

std::function<Status()> define_run(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  o->session.add_to(app, 0, "Context in tokens (default: the trained one, at most 4096)");
  auto* prompt = app.add_option("-p,--prompt", o->prompt, "Prompt; in a chat the first message");
  app.add_option("-f,--file", o->file, "Read the prompt from a file")->excludes(prompt);
  auto* prompts = app.add_option("--prompts", o->prompts.path, "Answer every prompt of a file: one a line, or jsonl {\"prompt\", \"id\", \"n\", \"system\"}")
                      ->excludes(prompt)->excludes("--file");
  app.add_option("--parallel", o->prompts.n_parallel, "With --prompts: answers generated side by side, each with a context of -c (also -np)")
      ->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("-o,--output", o->prompts.output, "With --prompts: write the answers to this file")->needs(prompts);
  app.add_flag("--answers-only", o->prompts.text, "With --prompts: the answers' text and an empty line after each, instead of jsonl")->needs(prompts);
  app.add_option("-n,--predict,--n-predict", o->n_predict, "Tokens to generate, -1: until the model ends")->capture_default_str();
  app.add_option("-s,--seed", o->seed, "Seed of the random draws, -1: a new one each time")->capture_default_str();
  app.add_option("--temp", o->sampler.temperature, "Temperature, 0: always the most likely token")->capture_default_str();
  app.add_option("--top-k", o->sampler.top_k, "Draw from the k most likely, 0: all")->capture_default_str();
  app.add_option("--top-p", o->sampler.top_p, "Draw from the most likely that make up this share, 1: off")->capture_default_str();
  app.add_option("--min-p", o->sampler.min_p, "Drop tokens below this share of the best one's probability, 0: off")->capture_default_str();
  app.add_option("--repeat-penalty", o->sampler.repeat_penalty, "Divide the logits of repeated tokens, 1: off")->capture_default_str();
  app.add_option("--presence-penalty", o->sampler.presence_penalty, "Subtract from the logits of tokens seen, 0: off")->capture_default_str();
  app.add_option("--frequency-penalty", o->sampler.frequency_penalty, "Subtract per occurrence, 0: off")->capture_default_str();
  app.add_option("--repeat-last-n", o->sampler.repeat_last_n, "Tokens that penalties look back over, -1: all")->capture_default_str();
  o->grammar.add_to(app);
  o->adapters.add_to(app);
  app.add_flag("--conversation", o->conversation, "Chat (default when the model has a chat template; also -cnv)");
  app.add_flag("--no-conversation", o->no_conversation, "Complete the prompt (also -no-cnv)");
  app.add_option("--system-prompt", o->chat.system, "System message of a chat (also -sys)");
  app.add_option("--chat-template", o->chat.template_override, "Jinja template to use instead of the model's");
  auto* cache = app.add_option("--prompt-cache", o->chat.prompt_cache, "Keep what is computed of the prompt in this file, and go on from there next time");
  app.add_flag("--prompt-cache-all", o->prompt_cache_all, "What is generated, too (a chat does)")->needs(cache);
  app.add_flag("--prompt-cache-ro", o->chat.prompt_cache_ro, "Read the file, do not write it")->needs(cache);
  app.add_flag("--no-display-prompt", o->no_display_prompt, "Print the continuation only");
  app.add_flag("--no-escape", o->no_escape, "Take \\n and the like in -p literally");
  app.add_flag("--json", o->json, "Complete the prompt and print one JSON object");
  app.footer("Examples:\n"
             "  shoehorn run -m model.gguf                                  chat\n"
             "  shoehorn run -m model.gguf -no-cnv -p \"Once upon a time\" -n 100\n"
             "  shoehorn run -m model.gguf -p \"Why is the sky blue?\" --temp 0 < /dev/null\n"
             "  shoehorn run -m model.gguf -p \"A knight of the round table\" -j '{\"properties\": {\"name\": {\"type\": \"string\"}}, \"required\": [\"name\"]}'\n"
             "  shoehorn run -m model.gguf -sys \"$(cat rules.txt)\" --prompt-cache rules.kv    the rules are read once\n"
             "  shoehorn run -m model.gguf --prompts prompts.jsonl -np 8 -n 128 -o answers.jsonl");
  return [o, prompt] { return run(*o, prompt->count() > 0); };
}

}  // namespace shoehorn::cli
