// Tasks that are answered by generation.
#include "eval/generation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/gsm8k.h"
#include "eval/log_softmax.h"
#include "eval/prompt_file.h"
#include "eval/task_runs.h"
#include "support/resume.h"
#include "support/running_model.h"

namespace shoehorn::eval {
namespace {

using tokenizer::Token;

std::string file(const std::string& name, const std::string& text) {
  const std::string path = test::temp_dir() + "/" + name;
  test::write_text(path, text);
  return path;
}

TEST(Gsm8k, FindsTheNumbersThatTheHarnessFinds) {
  EXPECT_EQ(strict_answer("2 + 2 = 4\n#### 1,234.\nQ"), "1,234.");
  EXPECT_EQ(strict_answer("#### -5 #### 6"), "-5");
  EXPECT_EQ(strict_answer("#### x\n#### 7"), "7");
  EXPECT_EQ(strict_answer("####7"), std::nullopt);
  EXPECT_EQ(strict_answer("#### "), std::nullopt);
  EXPECT_EQ(flexible_answer("He pays $1,200 and then 3 more"), "3");
  EXPECT_EQ(flexible_answer("so it is -$12.50 in all"), "-$12.50");
  EXPECT_EQ(flexible_answer("5 - 3 = 2."), "2.");
  EXPECT_EQ(flexible_answer("a $ and a . and -"), std::nullopt);
  EXPECT_EQ(normal_number("$1,234."), "1234");
  EXPECT_EQ(normal_number("-$12.50"), "-12.50");
}

TEST(PromptFile, ReadsLinesJsonlAndAlpacasForm) {
  ASSERT_EXPECTED(const auto lines, read_prompts(file("p.txt", "One\r\n\n  \nTwo three")));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].prompt, "One");
  EXPECT_EQ(lines[1].id, "1");
  ASSERT_EXPECTED(const auto objects,
                  read_prompts(file("p.jsonl", R"({"prompt": "P", "id": 17, "n": 9, "system": "S", "reference": "R"}
{"prompt": "Q", "references": ["a", "b"]}
{"instruction": "I", "instances": [{"input": "X", "output": "Y"}, {"input": "no", "output": "no"}]}
)")));
  EXPECT_EQ(objects[0].id, "17");
  EXPECT_EQ(objects[0].max_tokens, 9);
  EXPECT_EQ(objects[0].system, "S");
  EXPECT_EQ(objects[0].references, std::vector<std::string>{"R"});
  EXPECT_EQ(objects[1].references.size(), 2u);
  EXPECT_EQ(user_message(objects[2]), "I\n\nX");
  EXPECT_EQ(objects[2].references, std::vector<std::string>{"Y"});
  EXPECT_NE(plain_prompt(objects[2]).find("### Input:\nX\n\n### Response:\n"), std::string::npos);
  EXPECT_EQ(plain_prompt(objects[0]), "S\n\nP");
  ASSERT_EXPECTED(const auto list,
                  read_prompts(file("p.json", R"([{"instruction": "I", "input": "", "output": "O"}])")));
  EXPECT_EQ(user_message(list[0]), "I");
  EXPECT_EQ(plain_prompt(list[0]).find("### Input"), std::string::npos);
}

TEST(PromptFile, RefusesWhatIsWrongNamingFileAndLine) {
  const auto expect_error = [](const std::string& name, const std::string& text, const std::string& where,
                               const std::string& what) {
    const std::string path = file(name, text);
    const auto items = read_prompts(path);
    ASSERT_FALSE(items.has_value());
    EXPECT_EQ(items.error().message.rfind(path + where, 0), 0u) << items.error().message;
    EXPECT_NE(items.error().message.find(what), std::string::npos) << items.error().message;
  };
  expect_error("p.jsonl", "{\"prompt\": \"a\"}\n{\"promt\": \"b\"}\n", ":2", "\"prompt\" is missing");
  expect_error("p.jsonl", "{\"prompt\": \"a\"\n", ":1", "not valid JSON");
  expect_error("p.jsonl", "{\"prompt\": 1}\n", ":1", "\"prompt\"");
  expect_error("p.jsonl", "\"text\"\n", ":1", "object");
  expect_error("p.jsonl", "{\"prompt\": \"a\", \"n\": -2}\n", ":1", "\"n\"");
  expect_error("p.jsonl", "{\"prompt\": \"a\", \"references\": [1]}\n", ":1", "element 0");
  expect_error("p.jsonl", "{\"prompt\": \" \"}\n", ":1", "empty");
  expect_error("p.jsonl", "{\"prompt\": \"a\", \"id\": \"x\"}\n{\"prompt\": \"a\", \"id\": \"x\"}\n", "", "twice");
  expect_error("p.json", "[{\"prompt\": \"a\"}, {}]", ": element 1", "\"prompt\"");
  expect_error("p.json", "{}", "", "list");
  expect_error("p.txt", "\n\n", "", "no prompt");
}

class Generating : public testing::Test {
 protected:
  std::shared_ptr<const engine::Model> model_ =
      test::open_model(test::tiny_gguf());
  engine::SessionOptions options_ = {.n_ctx = 128, .n_batch = 32, .n_threads = 2};
};

TEST_F(Generating, StopsEndAnAnswerWhereverTokensPartThem) {
  ASSERT_EXPECTED(auto batch, engine::Batch::create(model_, options_, 2));
  const auto answers_with = [&](const std::vector<std::string>& stops) {
    std::vector<Question> questions;
    for (const char* text : {"Some", "Other words"})
      questions.push_back({model_->tokenizer().encode(text), 30, {.temperature = 0}, stops});
    std::vector<Answered> out;
    NoProgress progress;
    const auto status = answer_all(
        batch, questions,
        [&](size_t index, Expected<Answered> answer) -> Status {
          EXPECT_EQ(index, out.size());
          EXPECT_TRUE(answer.has_value());
          out.push_back(std::move(*answer));
          return {};
        },
        progress);
    EXPECT_TRUE(status.has_value());
    return out;
  };
  const auto whole = answers_with({});
  ASSERT_EQ(whole.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    std::string text;
    for (const Token id : whole[i].generation.ids) text += model_->tokenizer().piece(id);
    EXPECT_EQ(whole[i].text, text);
    // A stop that begins inside one token and ends in another.
    ASSERT_GT(text.size(), 12u);
    const std::string stop = text.substr(5, 6);
    const auto cut = answers_with({"never comes", stop});
    EXPECT_EQ(cut[i].text, text.substr(0, text.find(stop)));
    EXPECT_EQ(cut[i].generation.stop, engine::StopReason::kStopped);
    EXPECT_LT(cut[i].generation.ids.size(), whole[i].generation.ids.size());
  }
}

/// Remembers what was answered.
class Memory : public ItemLog {
 public:
  const ItemResult* find(const std::string& id) const override {
    const auto found = items_.find(id);
    return found == items_.end() ? nullptr : &found->second;
  }
  Status add(const ItemResult& item) override {
    items_[item.id] = item;
    return {};
  }
  std::map<std::string, ItemResult> items_;
};

TEST_F(Generating, AnswersAreScoredAgainstTheirReferencesAndTheBase) {
  const std::string path = file("a.jsonl", R"({"prompt": "Say", "reference": "some words", "n": 12}
{"prompt": "Say it", "references": ["x", "other words"], "n": 12}
{"prompt": "And", "reference": "more"}
)");
  const auto base = test::open_model(test::to_gguf(test::make_tiny_checkpoint(test::tiny_config()).directory));
  const Subject subject = {model_, options_}, base_subject = {base, options_};
  TaskOptions options;
  options.path = path;
  options.max_tokens = 5;
  Memory log;
  NoProgress progress;
  ASSERT_EXPECTED(const auto result, run_answers({options, subject, &base_subject, log, progress}));
  ASSERT_EQ(result.items.size(), 3u);
  EXPECT_EQ(log.items_.size(), 3u);
  EXPECT_EQ(result.items[0].record["n_tokens"], 12);
  EXPECT_EQ(result.items[2].record["n_tokens"], 5);
  // The KL once more: a pass from nothing over prompt and reference, softmax in double.
  for (size_t item : {0, 2}) {
    const std::string prompt = item == 0 ? "Say" : "And", reference = item == 0 ? " some words" : " more";
    const auto ids = model_->tokenizer().encode(prompt + reference), before = model_->tokenizer().encode(prompt);
    ASSERT_EXPECTED(auto session, engine::Session::create(model_, options_));
    ASSERT_EXPECTED(auto base_session, engine::Session::create(base, options_));
    ASSERT_EXPECTED(const auto q, session.eval(ids, ids.size()));
    ASSERT_EXPECTED(const auto p, base_session.eval(ids, ids.size()));
    const size_t n_vocab = session.n_vocab();
    double kld = 0, nll = 0;
    for (size_t t = before.size() - 1; t + 1 < ids.size(); ++t) {
      double q_sum = 0, p_sum = 0;
      for (size_t i = 0; i < n_vocab; ++i) {
        q_sum += std::exp(static_cast<double>(q[t * n_vocab + i]));
        p_sum += std::exp(static_cast<double>(p[t * n_vocab + i]));
      }
      for (size_t i = 0; i < n_vocab; ++i) {
        const double share = std::exp(static_cast<double>(p[t * n_vocab + i])) / p_sum;
        kld += share * (std::log(share) - std::log(std::exp(static_cast<double>(q[t * n_vocab + i])) / q_sum));
      }
      nll -= std::log(std::exp(static_cast<double>(q[t * n_vocab + static_cast<size_t>(ids[t + 1])])) / q_sum);
    }
    const Json& sums = result.items[item].record["sums"];
    EXPECT_EQ(sums["kld"][1].get<size_t>(), ids.size() - before.size());
    EXPECT_NEAR(sums["kld"][0].get<double>(), kld, 1e-4 + 0.05 * kld);
    EXPECT_NEAR(sums["reference_ppl"][0].get<double>(), nll, 0.02 * nll);
  }
}

TEST_F(Generating, AStoppedEvaluationGoesOnFromItsAnswersToTheSameResult) {
  std::string text;
  for (int i = 0; i < 12; ++i)
    text += R"({"question": "What is )" + std::to_string(i) + R"( and 1?", "answer": "It is. #### )" +
            std::to_string(i + 1) + "\"}\n";
  TaskOptions options;
  options.path = file("g.jsonl", text);
  options.dev_path = options.path;
  options.shots = 1;
  options.max_tokens = 20;
  options.n_parallel = 3;
  const Subject subject = {model_, options_};
  NoProgress progress;
  Memory whole, parts;
  ASSERT_EXPECTED(const auto expected, run_gsm8k({options, subject, nullptr, whole, progress}));
  EXPECT_EQ(expected.items.size(), 12u);
  EXPECT_NE(expected.items[0].record["prompt"].get<std::string>().find(
                "Question: What is 0 and 1?\nAnswer: It is. #### 1\n\nQuestion: What is 0"),
            std::string::npos);
  test::StopsAfter stops(8);
  const auto stopped = run_gsm8k({options, subject, nullptr, parts, stops});
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_GT(parts.items_.size(), 0u);
  EXPECT_LT(parts.items_.size(), 12u);
  options.n_parallel = 2;
  ASSERT_EXPECTED(const auto rest, run_gsm8k({options, subject, nullptr, parts, progress}));
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(rest.items[i].record, expected.items[i].record) << i;
}

TEST_F(Generating, Gsm8kRefusesWhatCannotBeAsked) {
  const Subject subject = {model_, options_};
  NoProgress progress;
  NoItemLog log;
  TaskOptions options;
  options.path =
      file("g.jsonl", "{\"question\": \"a\", \"answer\": \"#### 1\"}\n{\"question\": \"a\", \"answer\": \"1\"}\n");
  const auto bad = run_gsm8k({options, subject, nullptr, log, progress});
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().message.rfind(options.path + ":2", 0), 0u) << bad.error().message;
  options.path = file("g.jsonl", "{\"question\": \"a\", \"answer\": \"#### 1\"}\n");
  options.max_tokens = 128;
  EXPECT_EQ(run_gsm8k({options, subject, nullptr, log, progress}).error().code, ErrorCode::kTooLarge);
  options.max_tokens = 20;
  options.shots = 2;
  EXPECT_NE(run_gsm8k({options, subject, nullptr, log, progress}).error().message.find("--dev"), std::string::npos);
}

TEST(PerplexityTask, CountsWordsAndBytesOfWhatIsPredicted) {
  const auto model = test::open_model(test::to_gguf(test::make_tiny_checkpoint(test::tiny_config()).directory));
  std::string text;
  for (int i = 0; i < 60; ++i) text += "word and more  words\n";
  TaskOptions options;
  options.path = file("t.txt", text);
  const Subject subject = {model, {.n_ctx = 32, .n_threads = 1}};
  NoItemLog log;
  NoProgress progress;
  ASSERT_EXPECTED(const auto result, run_perplexity({options, subject, nullptr, log, progress}));
  const auto tokens = model->tokenizer().encode(text, {.parse_special = false});
  ASSERT_EQ(result.items.size(), tokens.size() / 32);
  double nll = 0, words = 0, bytes = 0, counted = 0;
  for (size_t chunk = 0; chunk < result.items.size(); ++chunk) {
    std::string scored;
    for (size_t i = 17; i < 32; ++i) scored += model->tokenizer().piece(tokens[32 * chunk + i]);
    const std::string before = model->tokenizer().piece(tokens[32 * chunk + 16]);
    double n = 0;
    char last = before.back();
    for (const char c : scored) {
      n += std::isspace(static_cast<unsigned char>(last)) != 0 && std::isspace(static_cast<unsigned char>(c)) == 0;
      last = c;
    }
    const Json& record = result.items[chunk].record;
    EXPECT_EQ(record["words"].get<double>(), n) << chunk;
    EXPECT_EQ(record["bytes"].get<double>(), static_cast<double>(scored.size())) << chunk;
    nll += record["nll"].get<double>();
    words += n;
    bytes += static_cast<double>(scored.size());
    counted += 15;
  }
  const auto figure = [&](size_t i) {
    return estimate(*result.metrics[i], *rows_of(*result.metrics[i], result.items), {}).value;
  };
  EXPECT_NEAR(figure(0), std::exp(nll / counted), 1e-9);
  EXPECT_NEAR(figure(1), std::exp(nll / words), 1e-6 * figure(1));
  EXPECT_NEAR(figure(2), nll / bytes / std::log(2.0), 1e-9);
}

}  // namespace
}  // namespace shoehorn::eval
