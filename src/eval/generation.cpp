#include "eval/generation.h"

#include <algorithm>
#include <map>

#include "engine/answer_text.h"
#include "tokenizer/chat_prompt.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

}  // namespace

Status answer_all(engine::Batch& batch, std::vector<Question> questions,
                  const std::function<Status(size_t index, Expected<Answered> answer)>& on_answer, Progress& progress) {
  engine::Scheduler scheduler(batch);
  std::vector<engine::AnswerText> texts;
  for (const Question& question : questions) texts.emplace_back(question.stops);
  for (size_t i = 0; i < questions.size(); ++i) {
    Question& question = questions[i];
    scheduler.submit({.prompt = std::move(question.ids),
                      .sampler = question.sampler,
                      .max_tokens = question.max_tokens,
                      .on_token = [&text = texts[i], &tokenizer = batch.model().tokenizer()](Token token) {
                        return text.add(tokenizer.piece(token));
                      },
                      .on_logprobs = {},
                      .adapters = std::move(question.adapters)});
  }
  std::map<size_t, Expected<Answered>> ready;
  size_t next = 0;
  progress.begin("answers", questions.size());
  while (!scheduler.idle()) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    SHOEHORN_TRY(auto done, scheduler.step());
    for (engine::Answer& answer : done) {
      if (answer.result) {
        ready.emplace(answer.id, Answered{texts[answer.id].text(), std::move(*answer.result)});
      } else {
        ready.emplace(answer.id, tl::unexpected<Error>(answer.result.error()));
      }
    }
    for (auto first = ready.begin(); first != ready.end() && first->first == next; first = ready.begin(), ++next) {
      SHOEHORN_RETURN_IF_ERROR(on_answer(next, std::move(first->second)));
      ready.erase(first);
    }
    progress.advance(done.size());
  }
  progress.end();
  return {};
}

Expected<std::optional<tokenizer::ChatTemplate>> chat_template_of(const engine::Model& model) {
  const std::string& source = model.tokenizer().vocab().chat_template;
  if (source.empty()) return std::nullopt;
  auto parsed = tokenizer::ChatTemplate::parse(source);
  if (!parsed) return annotate(parsed.error(), "the model's chat template");
  return std::optional<tokenizer::ChatTemplate>(std::move(*parsed));
}

Expected<std::vector<Token>> chat_question(const engine::Model& model, const tokenizer::ChatTemplate& chat_template,
                                           const std::string& system, const std::string& message) {
  auto messages = nlohmann::ordered_json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  messages.push_back({{"role", "user"}, {"content", message}});
  return tokenizer::encode_chat(model.tokenizer(), chat_template, messages);
}

}  // namespace shoehorn::eval
