// The tasks that are no multiple choice.
#pragma once

#include "eval/task.h"

namespace shoehorn::eval {

/// exact_strict, exact_flexible (gsm8k.cpp).
extern const std::span<const Metric> kGsm8kMetrics;
/// chrf, chrf_pp, rouge_l, bleu, sentence_bleu (answers.cpp).
extern const std::span<const Metric> kAnswerMetrics;
/// Against an uncompressed model on the references' tokens: kld, top1 (answers.cpp).
extern const std::span<const Metric> kBaseMetrics;
/// ppl, word_ppl, bits_per_byte (text_perplexity.cpp).
extern const std::span<const Metric> kTextMetrics;

/// jsonl with question and answer, whose last line is "#### NUMBER". Generates greedily until "Question:", </s> or
/// <|im_end|>.
Expected<Evaluation> run_gsm8k(const TaskRun& run);
/// Prompts with references (prompt_file.h). Generates greedily and compares.
Expected<Evaluation> run_answers(const TaskRun& run);
/// perplexity()'s protocol over a text; an item is a chunk.
Expected<Evaluation> run_perplexity(const TaskRun& run);

}  // namespace shoehorn::eval
