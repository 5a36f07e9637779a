#include <gtest/gtest.h>

#include "eval/choice_item.h"
#include "eval/csv.h"
#include "support/support.h"

namespace shoehorn::eval {
namespace {

using Reader = Expected<std::vector<ChoiceItem>> (*)(const ChoiceFiles&);

std::string file(const std::string& name, const std::string& text) {
  const std::string path = test::temp_dir() + "/" + name;
  test::write_text(path, text);
  return path;
}

std::string error_of(Reader reader, const std::string& path) {
  const auto items = reader({.path = path, .labels_path = {}});
  EXPECT_FALSE(items.has_value());
  return items ? "" : items.error().message;
}

void expect_error(Reader reader, const std::string& name, const std::string& text, const std::string& where,
                  const std::string& what) {
  const std::string path = file(name, text), message = error_of(reader, path);
  EXPECT_EQ(message.rfind(path + where, 0), 0u) << message;
  EXPECT_NE(message.find(what), std::string::npos) << message;
}

TEST(ChoiceFile, ReadsTheUsersQuestions) {
  const std::string path = file("q.jsonl", R"({"question": "2 + 2?", "choices": ["3", "4"], "answer": 1, "id": "sum"}

{"context": "The sky is ", "choices": ["blue", "green", "red"], "answer": "A"}
)");
  ASSERT_EXPECTED(const auto items, read_choice({.path = path, .labels_path = {}}));
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[0].id, "sum");
  EXPECT_EQ(items[0].context, "Question: 2 + 2?\nAnswer:");
  EXPECT_EQ(items[0].answer, 1u);
  EXPECT_EQ(items[1].context, "The sky is");
  EXPECT_EQ(items[1].delimiter, " ");
  EXPECT_EQ(items[1].answer, 0u);
}

TEST(ChoiceFile, RefusesWhatIsWrongNamingFileLineAndField) {
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": 0}\n{not json\n",
               ":2", "not valid JSON");
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"answer\": 0}\n", ":1", "\"choices\" is missing");
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"choices\": [\"x\"], \"answer\": 0}\n", ":1",
               "at least 2");
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"choices\": [\"x\", 3], \"answer\": 0}\n", ":1",
               "element 1");
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": 2}\n", ":1",
               "from 0 to 1");
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": -1}\n", ":1",
               "from 0 to 1");
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": \"C\"}\n", ":1",
               "letter");
  expect_error(read_choice, "q.jsonl", "{\"question\": 4, \"choices\": [\"x\", \"y\"], \"answer\": 0}\n", ":1",
               "\"question\"");
  expect_error(read_choice, "q.jsonl", "[1]\n", ":1", "object");
  expect_error(read_choice, "q.jsonl", "7\n", ":1", "object");
  expect_error(read_choice, "q.jsonl", "\n", "", "no question");
  expect_error(read_choice, "q.jsonl", "{\"question\": \"a\", \"choices\": [\"x\", \" \"], \"answer\": 0}\n", "",
               "empty");
  EXPECT_NE(error_of(read_choice, "/nowhere/q.jsonl").find("/nowhere/q.jsonl"), std::string::npos);
}

TEST(HellaSwag, IsCleanedOfMarkup) {
  EXPECT_EQ(clean_hellaswag(" How to [header] Dry  towels [title] Hang them [step] up. "),
            "How to Dry towels. Hang them up.");
  EXPECT_EQ(clean_hellaswag("an [open bracket"), "an [open bracket");
  EXPECT_EQ(clean_hellaswag("a [b\nc] d"), "a [b\nc] d");
  EXPECT_EQ(clean_hellaswag("four    spaces"), "four  spaces");  // as Python's replace, once from left to right
}

TEST(HellaSwag, IsReadFromJsonlWithTheSecondSentenceCapitalized) {
  const std::string path = file(
      "h.jsonl",
      R"({"activity_label": "Roof", "ctx_a": "A man sits.", "ctx_b": "then He", "endings": ["falls.", "[step] sings."], "label": "1"})");
  ASSERT_EXPECTED(const auto items, read_hellaswag({.path = path, .labels_path = {}}));
  EXPECT_EQ(items[0].context, "Roof: A man sits. Then he");
  EXPECT_EQ(items[0].choices[1], " sings.");
  EXPECT_EQ(items[0].answer, 1u);
}

TEST(HellaSwag, TextFilesHaveSixLinesAQuestion) {
  ASSERT_EXPECTED(const auto items,
                  read_hellaswag({.path = file("h.txt", "A: b\n2\nw\nx\ny\nz\n"), .labels_path = {}}));
  EXPECT_EQ(items[0].context, "A: b");
  EXPECT_EQ(items[0].answer, 2u);
  expect_error(read_hellaswag, "h.txt", "A: b\n2\nw\nx\ny\n", "", "5 lines");
  expect_error(read_hellaswag, "h.txt", "A: b\n2\nw\nx\ny\nz\nB\n4\nw\nx\ny\nz\n", ":8", "from 0 to 3");
}

TEST(Arc, ReadsItsThreeForms) {
  ASSERT_EXPECTED(const auto pairs, read_arc({.path = file("a.jsonl", R"({"question": "Q", "answer": "no", "label": 0}
{"question": "Q", "answer": "yes", "label": 1}
{"question": "R", "answer": "b", "label": 1}
{"question": "R", "answer": "c", "label": 0}
{"question": "R", "answer": "d", "label": 1}
{"question": "R", "answer": "e", "label": 0}
)"),
                                              .labels_path = {}}));
  ASSERT_EQ(pairs.size(), 3u);
  EXPECT_EQ(pairs[0].answer, 1u);
  EXPECT_EQ(pairs[0].context, "Question: Q\nAnswer:");
  EXPECT_EQ(pairs[2].choices, (std::vector<std::string>{"d", "e"}));
  ASSERT_EXPECTED(
      const auto original,
      read_arc(
          {.path = file(
               "a.jsonl",
               R"({"id": "M1", "question": {"stem": "Q", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]}, "answerKey": "B"})"),
           .labels_path = {}}));
  ASSERT_EXPECTED(
      const auto hub,
      read_arc(
          {.path = file(
               "a.jsonl",
               R"({"id": "M1", "question": "Q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"})"),
           .labels_path = {}}));
  for (const auto* items : {&original, &hub}) {
    EXPECT_EQ((*items)[0].id, "M1");
    EXPECT_EQ((*items)[0].context, "Question: Q\nAnswer:");
    EXPECT_EQ((*items)[0].choices, (std::vector<std::string>{"x", "y"}));
    EXPECT_EQ((*items)[0].answer, 1u);
  }
  expect_error(read_arc, "a.jsonl",
               R"({"question": "Q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "3"})", ":1",
               "answerKey");
  expect_error(read_arc, "a.jsonl",
               "{\"question\": \"Q\", \"answer\": \"x\", \"label\": 0}\n{\"question\": \"R\", \"answer\": \"x\", "
               "\"label\": 0}\n",
               ":2", "0 right");
}

TEST(Piqa, TakesItsLabelsFromTheFileBeside) {
  const std::string directory = test::temp_dir();
  test::write_text(directory + "/valid.jsonl", "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n");
  test::write_text(directory + "/valid-labels.lst", "1\n");
  ASSERT_EXPECTED(const auto items, read_piqa({.path = directory + "/valid.jsonl", .labels_path = {}}));
  EXPECT_EQ(items[0].context, "Question: g\nAnswer:");
  EXPECT_EQ(items[0].answer, 1u);
  test::write_text(directory + "/valid-labels.lst", "1\n0\n");
  EXPECT_NE(error_of(read_piqa, directory + "/valid.jsonl").find("2 labels"), std::string::npos);
  test::write_text(directory + "/valid-labels.lst", "2\n");
  EXPECT_NE(error_of(read_piqa, directory + "/valid.jsonl").find("valid-labels.lst:1"), std::string::npos);
  expect_error(read_piqa, "p.jsonl", "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n", ":1", "--labels");
}

TEST(Mmlu, AsksForALetterUnderTheSubjectsHeader) {
  const std::string csv = file("high_school_physics_test.csv", "\"What, then?\",one,two,\"th\"\"ree\",four,C\n");
  ASSERT_EXPECTED(const auto items, read_mmlu({.path = csv, .labels_path = {}}));
  EXPECT_EQ(items[0].description,
            "The following are multiple choice questions (with answers) about high school physics.\n\n");
  EXPECT_EQ(items[0].context, "What, then?\nA. one\nB. two\nC. th\"ree\nD. four\nAnswer:");
  EXPECT_EQ(items[0].choices, (std::vector<std::string>{"A", "B", "C", "D"}));
  EXPECT_EQ(items[0].answer, 2u);
  const std::string jsonl = file(
      "m.jsonl",
      R"({"question": "What, then?", "subject": "high_school_physics", "choices": ["one", "two", "th\"ree", "four"], "answer": 2})");
  ASSERT_EXPECTED(const auto hub, read_mmlu({.path = jsonl, .labels_path = {}}));
  EXPECT_EQ(hub[0].context, items[0].context);
  EXPECT_EQ(hub[0].description, items[0].description);
  expect_error(read_mmlu, "x.csv", "q,a,b,c,d,A\nq,a,b,c,d\n", ":2", "5 cells");
  expect_error(read_mmlu, "x.csv", "q,a,b,c,d,E\n", ":1", "letter");
}

TEST(TruthfulQa, PutsTheBestAnswerFirst) {
  const std::string path = file("t.csv",
                                "\xef\xbb\xbfQuestion,Best Answer,Correct Answers,Incorrect Answers\nWhy?,No reason; "
                                "none,One; ;Two,Three; One more\n");
  ASSERT_EXPECTED(const auto items, read_truthfulqa({.path = path, .labels_path = {}}));
  EXPECT_EQ(items[0].choices, (std::vector<std::string>{"No reason; none", "One", "Two", "Three", "One more"}));
  EXPECT_EQ(items[0].right, (std::vector<bool>{true, true, true, false, false}));
  EXPECT_TRUE(items[0].context.ends_with("\n\nQ: Why?\nA:"));
  expect_error(read_truthfulqa, "t.csv", "Question,Best Answer\nWhy?,x\n", ":1", "Correct Answers");
}

TEST(Csv, ReadsQuotedCellsOverLines) {
  const std::string path = file("x.csv", "a,\"b\nc\",\r\n\r\n\"d\"\"e\",,f,");
  ASSERT_EXPECTED(const auto rows, read_csv(path));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].cells, (std::vector<std::string>{"a", "b\nc", ""}));
  EXPECT_EQ(rows[1].cells, (std::vector<std::string>{"d\"e", "", "f", ""}));
  EXPECT_EQ(rows[1].line, 4u);
}

TEST(Csv, RefusesOpenQuotes) {
  const std::string open = file("x.csv", "a,b\n\"c\nd");
  EXPECT_EQ(read_csv(open).error().message.rfind(open + ":2", 0), 0u);
  EXPECT_FALSE(read_csv(file("x.csv", "\"a\"b,c\n")).has_value());
}

struct SharedFile {
  const char* path;
  Reader reader;
  size_t questions, choices;
};

class SharedFiles : public testing::TestWithParam<SharedFile> {};

TEST_P(SharedFiles, AreReadWhole) {
  SHOEHORN_SHARED(path, std::string("data/eval/") + GetParam().path);
  ASSERT_EXPECTED(const auto items, GetParam().reader({.path = path, .labels_path = {}}));
  EXPECT_EQ(items.size(), GetParam().questions);
  if (GetParam().choices == 0) return;
  for (const ChoiceItem& item : items) ASSERT_EQ(item.choices.size(), GetParam().choices) << item.id;
}

INSTANTIATE_TEST_SUITE_P(Benchmarks, SharedFiles,
                         testing::Values(SharedFile{"hellaswag/hellaswag_val_full.txt", read_hellaswag, 10042, 4},
                                         SharedFile{"arc/arc_challenge.jsonl", read_arc, 1000, 2},
                                         SharedFile{"arc/arc_challenge_val.jsonl", read_arc, 299, 2},
                                         SharedFile{"piqa/valid.jsonl", read_piqa, 1838, 2},
                                         SharedFile{"mmlu/mmlu.json", read_mmlu, 83, 4},
                                         SharedFile{"truthfulqa/TruthfulQA.csv", read_truthfulqa, 817, 0}),
                         [](const auto& parameter) {
                           std::string name = parameter.param.path;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace shoehorn::eval
