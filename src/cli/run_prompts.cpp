#include "cli/run_prompts.h"

#include <chrono>
#include <cstdio>
#include <optional>

#include "base/output_file.h"
#include "cli/command.h"
#include "eval/generation.h"
#include "eval/prompt_file.h"

namespace shoehorn::cli {
namespace {

using eval::PromptItem;

std::string as_json(const PromptItem& item, const Expected<eval::Answered>& answer) {
  Json json = {{"id", item.id}, {"prompt", eval::user_message(item)}};
  if (answer) {
    json.update({{"text", answer->text},
                 {"stop", engine::stop_reason_name(answer->generation.stop)},
                 {"n_prompt", answer->generation.n_prompt},
                 {"n_tokens", answer->generation.ids.size()}});
  } else {
    json["error"] = answer.error().message;
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

Status run_prompts(const SessionFlags& flags, const RunPromptsOptions& o) {
  SHOEHORN_TRY(const auto items, eval::read_prompts(o.path));
  SHOEHORN_TRY(const auto options, flags.session_options());
  SHOEHORN_TRY(const auto model, flags.open_model(flags.model_path));
  engine::SamplerOptions sampler = o.sampler;
  SHOEHORN_TRY(sampler.grammar, o.grammar.open(model->tokenizer()));
  SHOEHORN_TRY(const auto adapters, o.adapters.open(model));
  const size_t n_sequences = std::min(o.n_parallel, items.size());
  SHOEHORN_TRY(auto batch, engine::Batch::create(model, options, n_sequences));

  std::optional<tokenizer::ChatTemplate> chat;
  if (o.chat && !o.template_override.empty()) {
    SHOEHORN_TRY(chat, tokenizer::ChatTemplate::parse(o.template_override));
  } else if (o.chat) {
    SHOEHORN_TRY(chat, eval::chat_template_of(*model));
  }
  std::vector<eval::Question> questions;
  for (size_t i = 0; i < items.size(); ++i) {
    PromptItem item = items[i];
    if (item.system.empty()) item.system = o.system;
    eval::Question question = {
        .ids = {}, .max_tokens = item.max_tokens.value_or(o.n_predict), .sampler = sampler, .stops = {}, .adapters = adapters};
    question.sampler.seed += static_cast<uint32_t>(i);
    if (chat) {
      auto ids = eval::chat_question(*model, *chat, item.system, eval::user_message(item));
      if (!ids) return annotate(ids.error(), fmt::format("{}: prompt {}", o.path, item.id));
      question.ids = std::move(*ids);
    } else {
      question.ids = model->tokenizer().encode(eval::plain_prompt(item));
    }
    questions.push_back(std::move(question));
  }

  std::optional<OutputFile> file;
  if (!o.output.empty()) {
    SHOEHORN_TRY(file, OutputFile::create(o.output));
  }
  size_t n_failed = 0, n_read = 0, n_drawn = 0;
  const auto start = std::chrono::steady_clock::now();
  const auto progress = make_progress();
  const auto write = [&](size_t i, Expected<eval::Answered> answer) -> Status {
    if (answer) {
      n_read += answer->generation.n_prompt;
      n_drawn += answer->generation.ids.size();
    } else {
      ++n_failed;
      remark(fmt::format("{}: prompt {}: {}", o.path, items[i].id, answer.error().message));
    }
    const std::string line = o.text ? (answer ? answer->text : "") + "\n\n" : as_json(items[i], answer);
    if (file) return file->write(std::as_bytes(std::span(line)));
    if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size() || std::fflush(stdout) != 0) {
      return fail(ErrorCode::kIo, "cannot write to stdout");
    }
    return {};
  };
  SHOEHORN_RETURN_IF_ERROR(eval::answer_all(batch, std::move(questions), write, *progress));
  if (file) SHOEHORN_RETURN_IF_ERROR(file->commit());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  remark(fmt::format("{} prompts in {:.1f} s over {} sequences: {} prompt tokens, {} generated, {:.1f} tok/s",
                     items.size(), seconds, n_sequences, n_read, n_drawn, static_cast<double>(n_drawn) / seconds));
  if (n_failed > 0) return fail(ErrorCode::kTooLarge, "{} of {} prompts were not answered", n_failed, items.size());
  return {};
}

}  // namespace shoehorn::cli
