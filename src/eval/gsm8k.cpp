#include "eval/gsm8k.h"

#include "eval/generation.h"
#include "eval/json_fields.h"
#include "eval/prompt_tokens.h"
#include "eval/task_runs.h"

namespace shoehorn::eval {
namespace {

constexpr int64_t kMaxTokens = 256;

constexpr Metric kMetrics[] = {
    {"exact_strict", "share of questions whose number behind \"#### \" is right", Metric::Kind::kProportion, 2,
     mean_of_sums},
    {"exact_flexible", "share of questions whose last number is right", Metric::Kind::kProportion, 2, mean_of_sums},
};

struct Item {
  std::string id, question, answer, number;
};

Expected<std::vector<Item>> read_items(const std::string& path) {
  std::vector<Item> items;
  const auto read = [&](const Json& line) -> Status {
    Item item;
    item.id = std::to_string(items.size());
    SHOEHORN_TRY(item.question, text_field(line, "question"));
    SHOEHORN_TRY(item.answer, text_field(line, "answer"));
    const auto number = strict_answer(item.answer);
    if (!number) return fail(ErrorCode::kInvalid, "\"answer\" does not end with \"#### NUMBER\"");
    item.number = normal_number(*number);
    items.push_back(std::move(item));
    return {};
  };
  SHOEHORN_RETURN_IF_ERROR(for_each_json_line(path, read));
  if (items.empty()) return fail(ErrorCode::kInvalid, "{}: there is no question in it", path);
  return items;
}

bool in(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

}  // namespace

const std::span<const Metric> kGsm8kMetrics = kMetrics;

// As the patterns of lm-evaluation-harness: "#### (\-?[0-9\.\,]+)" and "(-?[$0-9.,]{2,})|(-?[0-9]+)".

std::optional<std::string> strict_answer(std::string_view text) {
  constexpr std::string_view kMark = "#### ";
  for (size_t at = text.find(kMark); at != std::string_view::npos; at = text.find(kMark, at + 1)) {
    size_t end = at + kMark.size();
    const size_t begin = end;
    if (end < text.size() && text[end] == '-') ++end;
    const size_t digits = end;
    while (end < text.size() && in(text[end], "0123456789.,")) ++end;
    if (end > digits) return std::string(text.substr(begin, end - begin));
  }
  return std::nullopt;
}

std::optional<std::string> flexible_answer(std::string_view text) {
  std::optional<std::string> last;
  for (size_t at = 0; at < text.size();) {
    const size_t first = text[at] == '-' ? at + 1 : at;
    size_t end = first;
    while (end < text.size() && in(text[end], "$0123456789.,")) ++end;
    const bool one_digit = end == first + 1 && in(text[first], "0123456789");
    if (end >= first + 2 || one_digit) {
      last = std::string(text.substr(at, end - at));
      at = end;
    } else {
      ++at;
    }
  }
  return last;
}

std::string normal_number(std::string_view number) {
  std::string out;
  for (const char c : number) {
    if (c != ',' && c != '$') out += c;
  }
  if (!out.empty() && out.back() == '.') out.pop_back();
  return out;
}

Expected<Evaluation> run_gsm8k(const TaskRun& run) {
  const TaskOptions& o = run.options;
  SHOEHORN_TRY(auto items, read_items(o.path));
  if (o.limit > 0 && items.size() > o.limit) items.resize(o.limit);
  SHOEHORN_TRY(const size_t shots, shots_of(o));
  std::string examples;
  if (shots > 0) {
    SHOEHORN_TRY(const auto dev, read_items(o.dev_path));
    if (dev.size() < shots)
      return fail(ErrorCode::kInvalid, "{} has {} examples, --shots asks for {}", o.dev_path, dev.size(), shots);
    for (size_t i = 0; i < shots; ++i)
      examples += "Question: " + dev[i].question + "\nAnswer: " + dev[i].answer + "\n\n";
  }
  const engine::Model& model = *run.subject.model;
  std::optional<tokenizer::ChatTemplate> chat;
  if (o.chat.value_or(false)) {
    SHOEHORN_TRY(chat, chat_template_of(model));
    if (!chat) return fail(ErrorCode::kInvalid, "the model has no chat template");
  }
  const int64_t max_tokens = o.max_tokens.value_or(kMaxTokens);
  SHOEHORN_TRY(auto batch,
               engine::Batch::create(run.subject.model, run.subject.session, std::min(o.n_parallel, items.size())));
  if (static_cast<size_t>(max_tokens) >= batch.n_ctx()) {
    return fail(ErrorCode::kTooLarge,
                "answers of {} tokens leave no room for a question in a context of {}; use a larger -c or a smaller -n",
                max_tokens, batch.n_ctx());
  }

  Evaluation out;
  out.items.resize(items.size());
  std::vector<Question> questions;
  std::vector<size_t> asked, cut;
  for (size_t i = 0; i < items.size(); ++i) {
    if (const ItemResult* known = run.log.find(items[i].id)) {
      out.items[i] = *known;
      continue;
    }
    const std::string prompt = examples + "Question: " + items[i].question + "\nAnswer:";
    Question question = {.ids = {},
                         .max_tokens = max_tokens,
                         .sampler = {.temperature = 0},
                         .stops = {"Question:", "</s>", "<|im_end|>"}};
    if (chat) {
      SHOEHORN_TRY(question.ids, chat_question(model, *chat, "", prompt));
    } else {
      question.ids = prompt_tokens(model.tokenizer(), prompt);
    }
    cut.push_back(cut_from_left(model.tokenizer(), question.ids, batch.n_ctx() - static_cast<size_t>(max_tokens)));
    questions.push_back(std::move(question));
    asked.push_back(i);
    out.items[i] = {.id = items[i].id,
                    .record = {{"task", "gsm8k"}, {"id", items[i].id}, {"prompt", prompt}, {"right", items[i].number}}};
  }
  const auto take = [&](size_t index, Expected<Answered> answer) -> Status {
    if (!answer) return annotate(answer.error(), fmt::format("{}: question {}", o.path, items[asked[index]].id));
    const Item& item = items[asked[index]];
    ItemResult& result = out.items[asked[index]];
    const auto strict = strict_answer(answer->text), flexible = flexible_answer(answer->text);
    result.record.update({{"answer", answer->text},
                          {"stop", engine::stop_reason_name(answer->generation.stop)},
                          {"n_tokens", answer->generation.ids.size()},
                          {"strict", strict ? Json(*strict) : Json()},
                          {"flexible", flexible ? Json(*flexible) : Json()}});
    if (cut[index] > 0) result.record["cut"] = cut[index];
    put_row(result.record, kMetrics[0], {static_cast<double>(strict && normal_number(*strict) == item.number), 1});
    put_row(result.record, kMetrics[1], {static_cast<double>(flexible && normal_number(*flexible) == item.number), 1});
    return run.log.add(result);
  };
  SHOEHORN_RETURN_IF_ERROR(answer_all(batch, std::move(questions), take, run.progress));
  size_t n_cut = 0, n_long = 0;
  for (const ItemResult& item : out.items) {
    n_cut += item.record.contains("cut");
    n_long += item.record.value("stop", "") == "length";
  }
  for (const Metric& metric : kMetrics) out.metrics.push_back(&metric);
  out.facts = {
      {"shots", shots}, {"cut", n_cut}, {"max_tokens", max_tokens}, {"chat", chat.has_value()}, {"unfinished", n_long}};
  if (n_cut > 0) {
    out.remarks.push_back(
        fmt::format("{} of {} prompts did not fit beside an answer of {} tokens into the context of {} and lost their "
                    "beginning (-c, -n, --shots)",
                    n_cut, items.size(), max_tokens, batch.n_ctx()));
  }
  return out;
}

}  // namespace shoehorn::eval
