// A question with choices, and the files that hold such questions.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::eval {

struct ChoiceItem {
  std::string id;                    ///< unique in its file
  std::string topic;                 ///< MMLU's subject, else empty: examples are taken from the same one
  std::string description;           ///< stands before examples and question
  std::string context;               ///< the question as it is put, without a trailing space
  std::vector<std::string> choices;  ///< what may follow, after the delimiter
  std::string delimiter = " ";
  size_t answer = 0;        ///< index of the right choice
  std::vector<bool> right;  ///< TruthfulQA: all right choices, by index; else empty
};

struct ChoiceFiles {
  std::string path;
  std::string labels_path;  ///< PIQA: empty takes PATH with "-labels.lst" for ".jsonl" when it is there
};

// Readers, one per benchmark. The prompts are those of EleutherAI's lm-evaluation-harness; docs/evaluation.md has the
// forms of the files. All fail with "PATH:LINE: ..." naming the field for what is missing, of the wrong type or out of
// range.

/// jsonl with activity_label, ctx_a, ctx_b, endings and label, or six lines of text per question: "activity: context",
/// index, four endings.
Expected<std::vector<ChoiceItem>> read_hellaswag(const ChoiceFiles& files);
/// jsonl with question {stem, choices} or question and choices {text, label}, and answerKey; or consecutive lines
/// {question, answer, label} of which exactly one has label 1.
Expected<std::vector<ChoiceItem>> read_arc(const ChoiceFiles& files);
/// jsonl with goal, sol1, sol2, and the labels, one a line, or in the field label.
Expected<std::vector<ChoiceItem>> read_piqa(const ChoiceFiles& files);
/// csv without a header (question, A, B, C, D, answer; the subject is the file's name), jsonl with question, subject,
/// choices and answer, or a JSON object with "samples" of finished prompts (prompt, options, input_label, topic).
Expected<std::vector<ChoiceItem>> read_mmlu(const ChoiceFiles& files);
/// TruthfulQA.csv. The choices are the best answer, the other correct ones, then the incorrect ones.
Expected<std::vector<ChoiceItem>> read_truthfulqa(const ChoiceFiles& files);
/// jsonl with question (asked as "Question: ...\nAnswer:") or context (as it is, without spaces at its end) and perhaps
/// delimiter, choices and answer (an index from 0, or a letter).
Expected<std::vector<ChoiceItem>> read_choice(const ChoiceFiles& files);

/// HellaSwag's text without WikiHow's markup, as the harness cleans it: "[title]" becomes a full stop, other [brackets]
/// go, and every double space becomes one.
std::string clean_hellaswag(std::string_view text);

}  // namespace shoehorn::eval
