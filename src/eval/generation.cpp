#include "eval/generation.h"

#include <algorithm>
#include <map>

#include "tokenizer/chat_prompt.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

/// Adds a piece to an answer; true when a stop came up, which is then cut off with what follows.
bool append(std::string& text, const std::string& piece, const std::vector<std::string>& stops) {
  const size_t before = text.size();
  text += piece;
  size_t end = std::string::npos;
  for (const std::string& stop : stops) {
    if (stop.empty()) continue;
    const size_t from = before >= stop.size() - 1 ? before - (stop.size() - 1) : 0;
    end = std::min(end, text.find(stop, from));
  }
  if (end == std::string::npos) return false;
  text.resize(end);
  return true;
}

}  // namespace

Status answer_all(engine::Batch& batch, std::vector<Question> questions,
                  const std::function<Status(size_t index, Expected<Answered> answer)>& on_answer, Progress& progress) {
  engine::Scheduler scheduler(batch);
  std::vector<std::string> texts(questions.size());
  for (size_t i = 0; i < questions.size(); ++i) {
    Question& question = questions[i];
    scheduler.submit({.prompt = std::move(question.ids),
                      .sampler = question.sampler,
                      .max_tokens = question.max_tokens,
                      .on_token = [&text = texts[i], &stops = question.stops, &tokenizer = batch.model().tokenizer()](
                                      Token token) { return !append(text, tokenizer.piece(token), stops); }});
  }
  std::map<size_t, Expected<Answered>> ready;
  size_t next = 0;
  progress.begin("answers", questions.size());
  while (!scheduler.idle()) {
    if (progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    SHOEHORN_TRY(auto done, scheduler.step());
    for (engine::Answer& answer : done) {
      if (answer.result) {
        ready.emplace(answer.id, Answered{std::move(texts[answer.id]), std::move(*answer.result)});
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
