#include "eval/multiple_choice.h"

#include <algorithm>
#include <cmath>

#include "eval/log_softmax.h"
#include "eval/prompt_tokens.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

constexpr Metric kMetrics[] = {
    {"acc", "share of questions whose right choice is the most likely", Metric::Kind::kProportion, 2, mean_of_sums},
    {"p_right", "mean share of the choices' probability that the right one has", Metric::Kind::kRatio, 2, mean_of_sums},
    {"acc_norm", "the same by log-likelihood per character of the choice", Metric::Kind::kProportion, 2, mean_of_sums},
};
constexpr Metric kTruth[] = {
    {"mc1", "share of questions whose best answer is more likely than every incorrect one", Metric::Kind::kProportion,
     2, mean_of_sums},
    {"mc2", "mean share of the answers' probability that the correct ones have", Metric::Kind::kRatio, 2, mean_of_sums},
};

/// Code points, as Python counts them; a byte that is no valid UTF-8 counts as one.
size_t n_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

size_t common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

/// What stands before the question: the description and the first `shots` examples of its topic.
std::string examples_for(const ChoiceItem& item, std::span<const ChoiceItem> dev, size_t shots) {
  std::string out = item.description;
  size_t n = 0;
  for (const ChoiceItem& example : dev) {
    if (n == shots) break;
    if (example.topic != item.topic) continue;
    out += example.context + example.delimiter + example.choices[example.answer] + "\n\n";
    ++n;
  }
  return out;
}

/// Probabilities of the choices among themselves.
std::vector<double> shares(std::span<const double> log_likelihood) {
  const double max = *std::max_element(log_likelihood.begin(), log_likelihood.end());
  std::vector<double> out;
  double sum = 0;
  for (const double x : log_likelihood) {
    out.push_back(std::exp(x - max));
    sum += out.back();
  }
  for (double& x : out) x /= sum;
  return out;
}

ItemResult result_of(const ChoiceItem& item, const std::string& prompt, const ChoiceScores& scores, const char* task,
                     std::span<const Metric> metrics) {
  ItemResult out = {.id = item.id,
                    .record = {{"task", task},
                               {"id", item.id},
                               {"prompt", prompt},
                               {"choices", item.choices},
                               {"right", item.answer},
                               {"log_likelihood", scores.log_likelihood},
                               {"n_tokens", scores.n_tokens}}};
  if (scores.n_cut > 0) out.record["cut"] = scores.n_cut;
  if (scores.merged) out.record["merged"] = true;
  if (!item.topic.empty()) out.record["topic"] = item.topic;
  const size_t chosen = best_choice(scores.log_likelihood);
  const std::vector<double> share = shares(scores.log_likelihood);
  std::vector<double> per_character;
  for (size_t i = 0; i < item.choices.size(); ++i) {
    per_character.push_back(scores.log_likelihood[i] / static_cast<double>(n_characters(item.choices[i])));
  }
  out.record["answer"] = chosen;
  for (const Metric& metric : metrics) {
    const std::string_view name = metric.name;
    double value = 0;
    if (name == "acc") value = chosen == item.answer;
    if (name == "p_right") value = share[item.answer];
    if (name == "acc_norm") {
      const size_t chosen_norm = best_choice(per_character);
      out.record["answer_norm"] = chosen_norm;
      value = chosen_norm == item.answer;
    }
    if (name == "mc1") {
      double wrong = -HUGE_VAL;
      for (size_t i = 0; i < share.size(); ++i) {
        if (!item.right[i]) wrong = std::max(wrong, scores.log_likelihood[i]);
      }
      value = scores.log_likelihood[item.answer] > wrong;
    }
    if (name == "mc2") {
      for (size_t i = 0; i < share.size(); ++i) value += item.right[i] ? share[i] : 0;
    }
    put_row(out.record, metric, {value, 1});
  }
  return out;
}

}  // namespace

const std::span<const Metric> kChoiceMetrics = kMetrics;
const std::span<const Metric> kLetterMetrics = std::span<const Metric>(kMetrics).first(2);
const std::span<const Metric> kTruthMetrics = kTruth;

size_t best_choice(std::span<const double> scores) {
  return static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

ChoiceScorer::ChoiceScorer(engine::Session& session) : session_(session) { session_.truncate(0); }

Expected<ChoiceScores> ChoiceScorer::score(std::string_view context, std::span<const std::string> continuations) {
  const tokenizer::Tokenizer& tokenizer = session_.model().tokenizer();
  ChoiceScores out;
  std::vector<Continuation> parts;
  for (const std::string& continuation : continuations) {
    Continuation part = continuation_tokens(tokenizer, context, continuation);
    const size_t n_scored = part.ids.size() - part.n_context;
    // The last token is only predicted; BOS or one token of context must remain.
    if (n_scored > session_.n_ctx()) {
      return fail(ErrorCode::kTooLarge, "a choice has {} tokens, the context {}; use a larger -c", n_scored,
                  session_.n_ctx());
    }
    out.n_cut = std::max(out.n_cut, cut_from_left(tokenizer, part.ids, session_.n_ctx() + 1));
    part.n_context = part.ids.size() - n_scored;
    out.merged = out.merged || part.merged;
    parts.push_back(std::move(part));
  }
  size_t shared = parts[0].n_context;
  for (const Continuation& part : parts) {
    shared = std::min({shared, part.n_context, common_prefix(parts[0].ids, part.ids)});
  }

  // Of what is held only whole batches are used again: then every token is computed as it would be from the beginning.
  size_t kept = shared == 0 ? 0 : common_prefix(held_, std::span<const Token>(parts[0].ids).first(shared - 1));
  kept = kept / session_.n_batch() * session_.n_batch();
  session_.truncate(kept);
  held_.assign(parts[0].ids.begin(), parts[0].ids.begin() + static_cast<std::ptrdiff_t>(shared));
  const std::span<const Token> all(parts[0].ids);
  if (shared > 0) {
    auto logits = session_.eval(all.subspan(kept, shared - kept), 1);
    if (!logits) {
      held_.clear();
      return tl::unexpected<Error>(logits.error());
    }
    last_.assign(logits->begin(), logits->end());
  }

  const size_t n_vocab = session_.n_vocab();
  for (const Continuation& part : parts) {
    double sum = 0;
    size_t next = part.n_context;
    if (next == shared) sum += log_probability(last_, part.ids[next++]);
    const size_t n_rows = part.ids.size() - next;
    if (n_rows > 0) {
      SHOEHORN_TRY(
          const auto logits,
          session_.eval(std::span<const Token>(part.ids).subspan(shared, part.ids.size() - 1 - shared), n_rows));
      for (size_t row = 0; row < n_rows; ++row)
        sum += log_probability(logits.subspan(row * n_vocab, n_vocab), part.ids[next + row]);
      session_.truncate(shared);
    }
    if (!std::isfinite(sum)) return fail(ErrorCode::kInvalid, "the log-likelihood of a choice is not finite");
    out.log_likelihood.push_back(sum);
    out.n_tokens.push_back(part.ids.size() - part.n_context);
  }
  return out;
}

Expected<Evaluation> run_choice_task(const TaskRun& run, const char* name, ChoiceReader reader,
                                     std::span<const Metric> metrics) {
  const TaskOptions& o = run.options;
  SHOEHORN_TRY(auto items, reader({.path = o.path, .labels_path = o.labels_path}));
  if (o.limit > 0 && items.size() > o.limit) items.resize(o.limit);
  SHOEHORN_TRY(const size_t shots, shots_of(o));
  std::vector<ChoiceItem> dev;
  if (shots > 0) {
    SHOEHORN_TRY(dev, reader({.path = o.dev_path, .labels_path = {}}));
  }
  SHOEHORN_TRY(auto session, engine::Session::create(run.subject.model, run.subject.session));
  ChoiceScorer scorer(session);
  Evaluation out;
  size_t n_cut = 0, n_merged = 0, n_few = 0;
  run.progress.begin(name, items.size());
  for (const ChoiceItem& item : items) {
    if (run.progress.cancelled()) return fail(ErrorCode::kCancelled, "stopped");
    const ItemResult* known = run.log.find(item.id);
    if (known != nullptr) {
      out.items.push_back(*known);
    } else {
      const auto of_topic = static_cast<size_t>(std::count_if(
          dev.begin(), dev.end(), [&](const ChoiceItem& example) { return example.topic == item.topic; }));
      n_few += of_topic < shots;
      const std::string prompt = examples_for(item, dev, shots) + item.context;
      std::vector<std::string> continuations;
      for (const std::string& choice : item.choices) continuations.push_back(item.delimiter + choice);
      auto scores = scorer.score(prompt, continuations);
      if (!scores) return annotate(scores.error(), fmt::format("{}: question {}", o.path, item.id));
      out.items.push_back(result_of(item, prompt, *scores, name, metrics));
      SHOEHORN_RETURN_IF_ERROR(run.log.add(out.items.back()));
    }
    n_cut += out.items.back().record.contains("cut");
    n_merged += out.items.back().record.contains("merged");
    run.progress.advance(1);
  }
  run.progress.end();
  for (const Metric& metric : metrics) out.metrics.push_back(&metric);
  out.facts = {{"shots", shots}, {"cut", n_cut}, {"merged", n_merged}};
  if (n_cut > 0) {
    out.remarks.push_back(fmt::format(
        "{} of {} questions did not fit into the context of {} tokens and lost the beginning of their prompts (-c)",
        n_cut, items.size(), session.n_ctx()));
  }
  if (n_few > 0)
    out.remarks.push_back(
        fmt::format("{} questions had fewer than {} examples of their topic in {}", n_few, shots, o.dev_path));
  return out;
}

}  // namespace shoehorn::eval
