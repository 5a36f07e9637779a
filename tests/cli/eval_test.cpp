// `shoehorn eval` and `run --prompts` as a user calls them.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/json.h"
#include "cli/program.h"
#include "support/support.h"

namespace shoehorn {
namespace {

using test::Result;
using test::run;

/// The embedded checkpoint as a GGUF of the given type, made once per process.
const std::string& model(const std::string& type = "Q8_0") {
  static std::map<std::string, std::string> made;
  if (!made.contains(type)) {
    made[type] = test::temp_dir() + "/" + type + ".gguf";
    const Result result = run({"quantize", test::source_dir() + "/models/fable-10m", made[type], type});
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
  return made[type];
}

std::string file(const std::string& name, const std::string& text) {
  const std::string path = test::temp_dir() + "/" + name;
  test::write_text(path, text);
  return path;
}

std::string choices(int n = 12) {
  std::string text;
  for (int i = 0; i < n; ++i) {
    text += R"({"context": "Chapter )" + std::to_string(i) +
            R"(. The old man went to the", "choices": ["house", "zyx qq", "door of the room"], "answer": )" +
            std::to_string(i % 3) + "}\n";
  }
  return file("q.jsonl", text);
}

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) out.push_back(Json::parse(text.substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

TEST(Eval, JsonHasFiguresIntervalsAndTheComparison) {
  const std::string questions = choices(), answers = test::temp_dir() + "/a.jsonl";
  const Result result = run({"eval", "-m", model("Q2_K"), "--task", "choice", "-f", questions, "--compare", model(),
                             "--answers", answers, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["items"], 12);
  for (const char* name : {"acc", "acc_norm", "p_right"}) {
    EXPECT_EQ(json[name], json["metrics"][name]["value"]);
    EXPECT_LE(json["metrics"][name]["low"], json[name]);
    EXPECT_GE(json["metrics"][name]["high"], json[name]);
    EXPECT_EQ(json["compare"]["metrics"][name]["first"], json[name]);
  }
  EXPECT_TRUE(json["compare"]["metrics"]["acc"].contains("only_second"));
  const auto records = lines_of(test::read_text(answers));
  ASSERT_EQ(records.size(), 12u);
  double right = 0;
  for (const Json& record : records) right += record["answer"] == record["right"];
  EXPECT_DOUBLE_EQ(json["acc"].get<double>(), right / 12);
  EXPECT_EQ(records[3]["prompt"], "Chapter 3. The old man went to the");
  EXPECT_FALSE(std::filesystem::exists(answers + ".partial"));

  // The same comparison from two files.
  const std::string other = test::temp_dir() + "/b.jsonl";
  ASSERT_EQ(run({"eval", "-m", model(), "--task", "choice", "-f", questions, "--answers", other}).exit_code, 0);
  const Result paired = run({"eval", "--paired", answers, other, "--json"});
  ASSERT_EQ(paired.exit_code, 0) << paired.err;
  EXPECT_EQ(Json::parse(paired.out)["metrics"], json["compare"]["metrics"]);
}

TEST(Eval, HelpShowsTasksAndExamples) {
  const Result help = run({"eval", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* word : {"hellaswag", "gsm8k", "answers", "Example"})
    EXPECT_NE(help.out.find(word), std::string::npos) << word;
}

TEST(Eval, LimitTakesTheFirstItems) {
  const Result all = run({"eval", "-m", model(), "--task", "choice", "-f", choices(12), "--json"});
  const std::string answers = test::temp_dir() + "/a.jsonl";
  const Result few = run(
      {"eval", "-m", model(), "--task", "choice", "-f", choices(12), "--limit", "4", "--json", "--answers", answers});
  ASSERT_EQ(few.exit_code, 0) << few.err;
  EXPECT_EQ(Json::parse(all.out)["items"], 12);
  EXPECT_EQ(Json::parse(few.out)["items"], 4);
  EXPECT_EQ(lines_of(test::read_text(answers)).back()["id"], "3");
}

TEST(Eval, AStoppedRunLeavesItsAnswersAndGoesOnFromThem) {
  const std::string questions = choices(500), answers = test::temp_dir() + "/a.jsonl", partial = answers + ".partial";
  const std::vector<std::string> command = {"eval", "-m",      model(),     "--task", "choice",
                                            "-f",   questions, "--answers", answers,  "--json"};
  test::Program program(command);
  const auto written = [&] {
    std::ifstream stream(partial);
    return std::count(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>(), '\n');
  };
  for (int i = 0; i < 1000 && written() < 20; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  program.signal(SIGINT);
  const Result stopped = program.wait();
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_FALSE(std::filesystem::exists(answers));
  const auto n = written() - 1;
  ASSERT_GE(n, 19);
  ASSERT_LT(n, 500);
  const Result rest = run(command);
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_NE(rest.err.find(std::to_string(n) + " answers are there"), std::string::npos) << rest.err;
  const Result whole = run({"eval", "-m", model(), "--task", "choice", "-f", questions, "--json"});
  EXPECT_EQ(Json::parse(rest.out)["metrics"], Json::parse(whole.out)["metrics"]);
  EXPECT_EQ(lines_of(test::read_text(answers)).size(), 500u);
}

TEST(Eval, AnotherRunsAnswersAreNotUsed) {
  const std::string answers = test::temp_dir() + "/a.jsonl";
  test::write_text(answers + ".partial",
                   "{\"task\":\"other\"}\n{\"id\":\"0\",\"task\":\"choice\",\"sums\":{\"acc\":[7,1]}}\n");
  const Result result =
      run({"eval", "-m", model(), "--task", "choice", "-f", choices(), "--answers", answers, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("begun anew"), std::string::npos) << result.err;
  EXPECT_LE(Json::parse(result.out)["acc"], 1);
}

TEST(Eval, WrongUsageAndBadFilesAreRefused) {
  EXPECT_EQ(run({"eval"}).exit_code, 2);
  EXPECT_EQ(run({"eval", "-m", model(), "--task", "nonsense", "-f", choices()}).exit_code, 2);
  EXPECT_EQ(run({"eval", "-m", model(), "--task", "choice"}).exit_code, 2);
  EXPECT_EQ(run({"eval", "-m", model(), "--task", "choice", "-f", choices(), "--kl-base", model()}).exit_code, 1);
  const std::string bad =
      file("bad.jsonl", "{\"question\": \"a\", \"choices\": [\"x\", \"y\"], \"answer\": 0}\n{\"question\"\n");
  const Result result = run({"eval", "-m", model(), "--task", "choice", "-f", bad});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find(bad + ":2"), std::string::npos) << result.err;
  const std::string one = file("one.jsonl", "{\"id\": \"1\", \"task\": \"choice\", \"sums\": {\"acc\": [1, 1]}}\n");
  const std::string none = file("none.jsonl", "{\"id\": \"2\", \"task\": \"choice\", \"sums\": {\"acc\": [1, 1]}}\n");
  EXPECT_NE(run({"eval", "--paired", one, none}).err.find("no item in common"), std::string::npos);
  EXPECT_NE(run({"eval", "--paired", one, bad}).err.find(bad + ":1"), std::string::npos);
}

TEST(RunPrompts, AreAnsweredInOrderAndAlikeHoweverManyAtOnce) {
  const std::string prompts = file("p.jsonl", R"({"prompt": "The king", "id": "k", "n": 5}
{"prompt": "Once upon a time there was"}
{"prompt": "A dog"}
{"prompt": "In the morning", "n": 20}
)");
  const auto answers = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"run", "-m", model(), "--prompts", prompts, "-n", "12", "-s", "7", "-no-cnv"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  const std::string one = answers({"-np", "1"});
  const auto records = lines_of(one);
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[0]["id"], "k");
  EXPECT_EQ(records[0]["n_tokens"], 5);
  EXPECT_EQ(records[3]["prompt"], "In the morning");
  EXPECT_EQ(answers({"-np", "3"}), one);
  EXPECT_EQ(answers({"-np", "8", "-t", "1"}), one);
  const std::string output = test::temp_dir() + "/out.jsonl";
  EXPECT_EQ(answers({"-np", "2", "-o", output}), "");
  EXPECT_EQ(test::read_text(output), one);
  EXPECT_EQ(answers({"--answers-only"}).rfind(records[0]["text"].get<std::string>() + "\n\n", 0), 0u);
  // As a run of its own, with the seed of its place.
  const Result alone = run({"run", "-m", model(), "-p", "A dog", "-n", "12", "-s", "9", "--json"});
  EXPECT_EQ(Json::parse(alone.out)["text"], records[2]["text"]);
}

TEST(RunPrompts, OneThatDoesNotFitFailsTheCommandAfterTheOthers) {
  const std::string prompts = file("p.txt", "Short\n" + std::string(400, 'x') + " y z\nAlso short\n");
  const Result result = run({"run", "-m", model(), "--prompts", prompts, "-n", "3", "-c", "64", "-np", "2", "-no-cnv"});
  EXPECT_EQ(result.exit_code, 1);
  const auto records = lines_of(result.out);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_TRUE(records[1].contains("error"));
  EXPECT_EQ(records[2]["n_tokens"], 3);
  EXPECT_NE(result.err.find("1 of 3"), std::string::npos) << result.err;
}

TEST(RunPrompts, MalformedFilesAreRefused) {
  const std::string bad = file("p.jsonl", "{\"prompt\": \"a\"}\n{\"nothing\": 1}\n");
  const Result result = run({"run", "-m", model(), "--prompts", bad});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find(bad + ":2"), std::string::npos) << result.err;
  EXPECT_EQ(run({"run", "-m", model(), "-o", "x"}).exit_code, 2);
  EXPECT_EQ(run({"run", "-m", model(), "-p", "x", "--prompts", bad}).exit_code, 2);
}

}  // namespace
}  // namespace shoehorn
