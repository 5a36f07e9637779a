#include <algorithm>
#include <cmath>
#include <optional>

#include "eval/generation.h"
#include "eval/json_fields.h"
#include "eval/predictions.h"
#include "eval/prompt_file.h"
#include "eval/prompt_tokens.h"
#include "eval/task_runs.h"
#include "eval/text_metrics.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

constexpr int64_t kMaxTokens = 256;
constexpr size_t kChrfSums = 3 * 6, kChrfWordOrder = 2, kChrfPlusSums = kChrfSums + 3 * kChrfWordOrder;

double exp_of_mean(std::span<const double> sums) { return std::exp(mean_of_sums(sums)); }

constexpr Metric kMetrics[] = {
    {"chrf", "chrF2 of all answers (0 ... 100)", Metric::Kind::kRatio, kChrfSums, chrf_score, 2},
    {"chrf_pp", "chrF2++ of all answers (0 ... 100)", Metric::Kind::kRatio, kChrfPlusSums, chrf_score, 2},
    {"rouge_l", "mean ROUGE-L F1 (0 ... 1)", Metric::Kind::kRatio, 2, mean_of_sums},
    {"bleu", "BLEU of all answers, 13a tokens (0 ... 100)", Metric::Kind::kRatio, kBleuCounts, bleu_score, 2},
    {"sentence_bleu", "mean smoothed BLEU of each answer (0 ... 100)", Metric::Kind::kRatio, 2, mean_of_sums, 2},
};
constexpr Metric kAgainstBase[] = {
    {"kld", "mean KL(base || model) per token of the references, nats", Metric::Kind::kRatio, 2, mean_of_sums, 5},
    {"top1", "share of the references' tokens where both find the same token most likely", Metric::Kind::kRatio, 2,
     mean_of_sums},
    {"reference_ppl", "perplexity of the references", Metric::Kind::kRatio, 2, exp_of_mean, 3},
};

/// How both models see a reference after its question. What does not fit into the context is left out, the end first.
Expected<Predictions> compare_on(engine::Session& session, engine::Session& base, const Continuation& text) {
  Predictions out;
  const size_t n_vocab = session.n_vocab(), end = std::min(text.ids.size(), session.n_ctx() + 1);
  if (end <= text.n_context) return out;
  const std::span<const Token> input(text.ids.data(), end - 1);
  const size_t n_rows = end - text.n_context;
  session.truncate(0);
  base.truncate(0);
  SHOEHORN_TRY(const auto logits, session.eval(input, n_rows));
  SHOEHORN_TRY(const auto base_logits, base.eval(input, n_rows));
  for (size_t i = 0; i < n_rows; ++i) {
    if (!out.add(logits.subspan(i * n_vocab, n_vocab), base_logits.subspan(i * n_vocab, n_vocab),
                 text.ids[text.n_context + i])) {
      return fail(ErrorCode::kInvalid, "logits are not finite");
    }
  }
  return out;
}

void score(Json& record, const std::string& answer, const std::vector<std::string>& references) {
  const std::string text = strip(answer);
  const double rouge = rouge_l(text, references);
  const BleuCounts bleu = bleu_counts(text, references);
  const double sentence = sentence_bleu_score(bleu);
  const ChrfCounts chrf = chrf_counts(text, references, 0), chrf_pp = chrf_counts(text, references, kChrfWordOrder);
  record["scores"] = {
      {"chrf", chrf_score(chrf)}, {"chrf_pp", chrf_score(chrf_pp)}, {"rouge_l", rouge}, {"bleu", sentence}};
  put_row(record, kMetrics[0], chrf);
  put_row(record, kMetrics[1], chrf_pp);
  put_row(record, kMetrics[2], {rouge, 1});
  put_row(record, kMetrics[3], bleu);
  put_row(record, kMetrics[4], {sentence, 1});
}

/// Everything that answering takes.
class Answers {
 public:
  static Expected<Answers> create(const TaskRun& run, size_t n_items) {
    Answers out;
    SHOEHORN_TRY(auto batch, engine::Batch::create(run.subject.model, run.subject.session,
                                                   std::min(run.options.n_parallel, n_items)));
    out.batch_.emplace(std::move(batch));
    if (run.options.chat.value_or(true)) {
      SHOEHORN_TRY(out.chat_, chat_template_of(*run.subject.model));
    }
    if (run.base == nullptr) return out;
    const size_t n_vocab = run.subject.model->hparams().n_vocab, n_base = run.base->model->hparams().n_vocab;
    if (n_vocab != n_base)
      return fail(ErrorCode::kInvalid, "the base model has {} tokens, this one {}", n_base, n_vocab);
    SHOEHORN_TRY(auto session, engine::Session::create(run.subject.model, run.subject.session));
    SHOEHORN_TRY(auto base, engine::Session::create(run.base->model, run.base->session));
    out.session_.emplace(std::move(session));
    out.base_.emplace(std::move(base));
    return out;
  }

  engine::Batch& batch() { return *batch_; }
  bool chat() const { return chat_.has_value(); }

  /// What the model is given.
  Expected<std::vector<Token>> prompt(const PromptItem& item) const {
    if (chat_) return chat_question(batch_->model(), *chat_, item.system, user_message(item));
    return prompt_tokens(batch_->model().tokenizer(), plain_prompt(item));
  }

  /// Adds the comparison with the base, when there is one.
  Status compare(const PromptItem& item, Json& record) {
    if (!base_) return {};
    Continuation text;
    const tokenizer::Tokenizer& tokenizer = batch_->model().tokenizer();
    if (chat_) {
      SHOEHORN_TRY(text.ids, prompt(item));
      text.n_context = text.ids.size();
      const auto ids = tokenizer.encode(item.references[0], {.add_special = false, .parse_special = false});
      text.ids.insert(text.ids.end(), ids.begin(), ids.end());
    } else {
      const std::string before = plain_prompt(item);
      const bool spaced = before.back() == ' ' || before.back() == '\n' || item.references[0].front() == ' ';
      text = continuation_tokens(tokenizer, before, (spaced ? "" : " ") + item.references[0]);
    }
    SHOEHORN_TRY(const Predictions p, compare_on(*session_, *base_, text));
    const auto tokens = static_cast<double>(p.tokens());
    put_row(record, kAgainstBase[0], {p.kl(), tokens});
    put_row(record, kAgainstBase[1], {static_cast<double>(p.same_top()), tokens});
    put_row(record, kAgainstBase[2], {p.nll(), tokens});
    return {};
  }

 private:
  std::optional<engine::Batch> batch_;
  std::optional<tokenizer::ChatTemplate> chat_;
  std::optional<engine::Session> session_, base_;
};

}  // namespace

const std::span<const Metric> kAnswerMetrics = kMetrics;
const std::span<const Metric> kBaseMetrics = kAgainstBase;

Expected<Evaluation> run_answers(const TaskRun& run) {
  const TaskOptions& o = run.options;
  SHOEHORN_TRY(auto items, read_prompts(o.path));
  if (o.limit > 0 && items.size() > o.limit) items.resize(o.limit);
  for (const PromptItem& item : items) {
    bool empty = item.references.empty();
    for (const std::string& reference : item.references) empty = empty || strip(reference).empty();
    if (empty)
      return fail(ErrorCode::kInvalid,
                  "{}: prompt {} has no reference, or an empty one (\"reference\", \"references\" or \"output\")",
                  o.path, item.id);
  }
  SHOEHORN_TRY(auto answers, Answers::create(run, items.size()));
  const size_t n_ctx = answers.batch().n_ctx();

  Evaluation out;
  out.items.resize(items.size());
  std::vector<Question> questions;
  std::vector<size_t> asked;
  size_t n_cut = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const PromptItem& item = items[i];
    if (const ItemResult* known = run.log.find(item.id)) {
      out.items[i] = *known;
      continue;
    }
    Question question;
    auto ids = answers.prompt(item);
    if (!ids) return annotate(ids.error(), fmt::format("{}: prompt {}", o.path, item.id));
    question.ids = std::move(*ids);
    question.max_tokens = item.max_tokens.value_or(o.max_tokens.value_or(kMaxTokens));
    question.sampler.temperature = 0;
    if (!answers.chat() && item.instruction) question.stops = {"\n\n### "};
    // An answer has at least half the context, if it may be as long.
    const size_t room = std::min(static_cast<size_t>(question.max_tokens), n_ctx / 2);
    const size_t n_cut_here = cut_from_left(answers.batch().model().tokenizer(), question.ids, n_ctx - room);
    out.items[i] = {.id = item.id,
                    .record = {{"task", "answers"},
                               {"id", item.id},
                               {"prompt", user_message(item)},
                               {"references", item.references},
                               {"chat", answers.chat()}}};
    if (!item.system.empty()) out.items[i].record["system"] = item.system;
    if (n_cut_here > 0) out.items[i].record["cut"] = n_cut_here;
    questions.push_back(std::move(question));
    asked.push_back(i);
  }
  const auto take = [&](size_t index, Expected<Answered> answer) -> Status {
    const PromptItem& item = items[asked[index]];
    ItemResult& result = out.items[asked[index]];
    const std::string where = fmt::format("{}: prompt {}", o.path, item.id);
    if (!answer) return annotate(answer.error(), where);
    result.record.update({{"answer", answer->text},
                          {"stop", engine::stop_reason_name(answer->generation.stop)},
                          {"n_tokens", answer->generation.ids.size()}});
    score(result.record, answer->text, item.references);
    if (const Status compared = answers.compare(item, result.record); !compared)
      return annotate(compared.error(), where);
    return run.log.add(result);
  };
  SHOEHORN_RETURN_IF_ERROR(answer_all(answers.batch(), std::move(questions), take, run.progress));
  size_t n_unfinished = 0;
  for (const ItemResult& item : out.items) {
    n_cut += item.record.contains("cut");
    const std::string stop = json_or(item.record, "stop", std::string());
    n_unfinished += stop == "length" || stop == "context";
  }
  for (const Metric& metric : kMetrics) out.metrics.push_back(&metric);
  if (run.base != nullptr) {
    for (const Metric& metric : kAgainstBase) out.metrics.push_back(&metric);
  }
  out.facts = {{"chat", answers.chat()}, {"cut", n_cut}, {"unfinished", n_unfinished}};
  if (n_cut > 0)
    out.remarks.push_back(
        fmt::format("{} of {} prompts did not fit into the context of {} tokens and lost their beginning (-c)", n_cut,
                    items.size(), n_ctx));
  return out;
}

}  // namespace shoehorn::eval
