// Multiple choice by log-likelihood: the model "answers" with the choice that it finds most likely to follow.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "eval/choice_item.h"
#include "eval/task.h"

namespace shoehorn::eval {

struct ChoiceScores {
  std::vector<double> log_likelihood;  ///< [n_choices] nats, summed over the continuation's tokens
  std::vector<size_t> n_tokens;        ///< [n_choices] of the continuations
  size_t n_cut = 0;                    ///< tokens of context left out because they did not fit, of the longest choice
  bool merged = false;                 ///< a token spanned the seam (Continuation::merged)
};

/// Scores continuations of one context. What they have in common is evaluated once, each continuation after it.
class ChoiceScorer {
 public:
  /// The session's context is this object's from now on; what it holds is taken to be of no use.
  explicit ChoiceScorer(engine::Session& session);

  /// log P(continuation | context) for each. The tokens are continuation_tokens()'. A context that does not fit loses
  /// its oldest tokens; fails with kTooLarge when a continuation alone does not fit, with kInvalid for logits that are
  /// not finite. The result does not depend on what was scored before.
  Expected<ChoiceScores> score(std::string_view context, std::span<const std::string> continuations);

 private:
  engine::Session& session_;
  std::vector<tokenizer::Token> held_;  // what the KV cache holds
  std::vector<float> last_;             // [n_vocab] logits after the shared tokens
};

/// The index of the largest; the first among equals.
size_t best_choice(std::span<const double> scores);

/// acc: right by log-likelihood. acc_norm: by log-likelihood per character of the choice. p_right: the right choice's
/// share of the choices' probability.
extern const std::span<const Metric> kChoiceMetrics;
/// Without acc_norm: letters are equally long.
extern const std::span<const Metric> kLetterMetrics;
/// mc1: the best answer is more likely than every incorrect one. mc2: the correct answers' share of the answers'
/// probability.
extern const std::span<const Metric> kTruthMetrics;

using ChoiceReader = Expected<std::vector<ChoiceItem>> (*)(const ChoiceFiles& files);

/// Reads, asks, scores.
Expected<Evaluation> run_choice_task(const TaskRun& run, const char* name, ChoiceReader reader,
                                     std::span<const Metric> metrics);

}  // namespace shoehorn::eval
