// Files of prompts, with or without the answers that are expected.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::eval {

struct PromptItem {
  std::string id;                       ///< unique in its file
  std::string system;                   ///< empty: none
  std::string prompt;                   ///< or an instruction
  std::string input;                    ///< what the instruction is about; empty: nothing, or no instruction
  bool instruction = false;             ///< in Alpaca's form
  std::vector<std::string> references;  ///< right answers
  std::optional<int64_t> max_tokens;    ///< of the answer
};

/// By the file's name: .jsonl has an object a line, .json a list of them, any other file a prompt a line. Objects have
/// "prompt", or "instruction" and perhaps "input" (Alpaca's; or with "instances" as self-instruct's, whose first is
/// taken); "reference" (text or list), "references" or "output"; and optionally "id", "system" and "n", the most tokens
/// of the answer. Empty lines are passed over. Fails with "PATH:LINE: ..." naming the field.
Expected<std::vector<PromptItem>> read_prompts(const std::string& path);

/// What a user would say: the prompt, or instruction and input with an empty line between.
std::string user_message(const PromptItem& item);
/// What a model without a chat template is given: the system text and the prompt as they are; an instruction in the
/// frame of Stanford's Alpaca.
std::string plain_prompt(const PromptItem& item);

}  // namespace shoehorn::eval
