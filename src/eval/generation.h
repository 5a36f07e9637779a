// Many answers side by side.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "engine/scheduler.h"
#include "tokenizer/chat_template.h"

namespace shoehorn::eval {

struct Question {
  std::vector<tokenizer::Token> ids;
  int64_t max_tokens = -1;
  engine::SamplerOptions sampler;
  std::vector<std::string> stops;  ///< texts that end the answer and do not belong to it
  engine::Adapters adapters = {};  ///< added to the weights
};

struct Answered {
  std::string text;
  engine::Generation generation;
};

/// Answers all questions over the sequences of `batch`. on_answer is called once for each, in their order, as early as
/// that allows; with an error where a question alone failed. What on_answer returns ends the work when it is an error.
/// Progress counts answers.
Status answer_all(engine::Batch& batch, std::vector<Question> questions,
                  const std::function<Status(size_t index, Expected<Answered> answer)>& on_answer, Progress& progress);

/// The model's chat template, or nothing when it has none. Fails when it has one that does not parse.
Expected<std::optional<tokenizer::ChatTemplate>> chat_template_of(const engine::Model& model);

/// A question put in a chat: system text (may be empty) and the user's message.
Expected<std::vector<tokenizer::Token>> chat_question(const engine::Model& model,
                                                      const tokenizer::ChatTemplate& chat_template,
                                                      const std::string& system, const std::string& message);

}  // namespace shoehorn::eval
