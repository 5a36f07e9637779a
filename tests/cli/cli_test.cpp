// The program as a user calls it: exit codes, streams, files.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <thread>

#include "base/json.h"
#include "cli/program.h"
#include "io/gguf.h"
#include "support/support.h"

namespace shoehorn {
namespace {

namespace fs = std::filesystem;

using test::Result;
using test::run;

std::string fable() { return test::source_dir() + "/models/fable-10m"; }

/// The embedded checkpoint as a GGUF of the given type, made once per process.
const std::string& model(const std::string& type = "Q8_0") {
  static std::map<std::string, std::string> made;
  if (!made.contains(type)) {
    made[type] = test::temp_dir() + "/" + type + ".gguf";
    const Result result = run({"quantize", fable(), made[type], type});
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
  return made[type];
}

TEST(Cli, HelpIsOnStdoutAndExitsZero) {
  const Result all = run({"--help"});
  EXPECT_EQ(all.exit_code, 0);
  for (const char* command : {"inspect", "tokenize", "verify", "convert", "imatrix", "quantize", "run", "perplexity", "bench", "report", "prune", "heal", "rotate"}) {
    EXPECT_NE(all.out.find(command), std::string::npos) << command;
    const Result help = run({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_NE(help.out.find("Example"), std::string::npos) << command << " --help shows no example";
  }
}

TEST(Cli, WrongUsageExitsTwo) {
  EXPECT_EQ(run({}).exit_code, 2);
  EXPECT_EQ(run({"frobnicate"}).exit_code, 2);
  EXPECT_EQ(run({"convert"}).exit_code, 2);
  EXPECT_EQ(run({"convert", "a", "b", "--type", "q9"}).exit_code, 2);
  EXPECT_EQ(run({"run", "-m", "x.gguf", "--no-such-flag"}).exit_code, 2);
}

TEST(Cli, FailureExitsOneWithTheFileOnStderr) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{{"inspect", "/no/such/model"},
                                                                     {"verify", "/no/such/model"},
                                                                     {"convert", "/no/such/model", "/tmp/never.gguf"},
                                                                     {"quantize", "/no/such/model", "/tmp/never.gguf", "Q4_K_M"},
                                                                     {"run", "-m", "/no/such/model", "-p", "x"},
                                                                     {"bench", "-m", "/no/such/model"},
                                                                     {"report", "/no/such/model"},
                                                                     {"tokenize", "-m", "/no/such/model", "-p", "x"}}) {
    const Result result = run(arguments);
    EXPECT_EQ(result.exit_code, 1) << arguments[0];
    EXPECT_EQ(result.out, "") << arguments[0];
    EXPECT_NE(result.err.find("/no/such/model"), std::string::npos) << result.err;
  }
  const Result unknown = run({"quantize", fable(), "/tmp/never.gguf", "Q9_Z"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_NE(unknown.err.find("Q9_Z"), std::string::npos);
  EXPECT_NE(unknown.err.find("Q4_K_M"), std::string::npos) << "the error does not say what there is";
}

TEST(Inspect, CountsTheParametersOfCheckpointAndGguf) {
  const Result hf = run({"inspect", fable(), "--json"});
  ASSERT_EQ(hf.exit_code, 0) << hf.err;
  const Json checkpoint = Json::parse(hf.out);
  EXPECT_EQ(checkpoint["parameters"], 9703680);
  EXPECT_EQ(checkpoint["format"], "hf");
  EXPECT_EQ(checkpoint["tokenizer"]["pre"], "llama-bpe");
  const Json gguf = Json::parse(run({"inspect", model("Q4_K_M"), "--json"}).out);
  EXPECT_EQ(gguf["parameters"], 9703680);
  EXPECT_EQ(gguf["format"], "gguf");
  EXPECT_TRUE(gguf["types"].contains("Q4_K"));
  EXPECT_EQ(gguf["chat_template"], checkpoint["chat_template"]);
}

TEST(Inspect, DrawsTheLayers) {
  const Result result = run({"inspect", model("Q4_K_M")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const size_t drawing = result.out.find("layers  heads   MLP");
  ASSERT_NE(drawing, std::string::npos) << result.out;
  EXPECT_NE(result.out.find("q k o gate up  v down", drawing), std::string::npos) << "types that agree share a column:\n" << result.out;
  EXPECT_NE(result.out.find("8/2  1024  ████████████████  Q4_K           Q6_K  ", drawing), std::string::npos) << result.out;
  const Json json = Json::parse(run({"inspect", model("Q4_K_M"), "--json"}).out);
  ASSERT_EQ(json["layers"].size(), 8u);
  EXPECT_EQ(json["layers"][0]["types"]["ffn_down"], "Q6_K");
  EXPECT_EQ(json["layers"][1]["types"]["ffn_down"], "Q4_K");
  EXPECT_EQ(json["layers"][7]["n_ff"], 1024);
}

TEST(Report, IsMadeOfWhatTheCommandsWrite) {
  const std::string dir = test::temp_dir(), text = test::source_dir() + "/models/fable-10m/eval.txt";
  const auto record = [&](const std::string& name, const std::vector<std::string>& arguments) {
    const Result result = run(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    test::write_text(dir + "/" + name, result.out);
  };
  record("a.json", {"convert", fable(), dir + "/f16.gguf", "--json"});
  record("b.json", {"quantize", fable(), dir + "/q4.gguf", "Q4_K_M", "--json"});
  record("c.json", {"perplexity", "-m", dir + "/q4.gguf", "-f", text, "--chunks", "3", "--kl-base", dir + "/f16.gguf", "--json"});
  record("d.json", {"bench", "-m", dir + "/q4.gguf", "-p", "16", "-n", "8", "-pg", "16,8", "-r", "2", "-o", "json"});
  record("e.json", {"inspect", fable(), "--json"});
  record("f.json", {"verify", dir + "/q4.gguf", "--json"});
  const Result result = run({"report", dir, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["out"], dir + "/report.html");
  EXPECT_TRUE(json["problems"].empty()) << json["problems"];
  for (const Json& file : json["files"]) EXPECT_NE(file["what"], "JSON of something else") << file["path"];
  ASSERT_EQ(json["models"].size(), 3u);
  const Json& q4 = json["models"][2];
  EXPECT_EQ(q4["name"], "q4");
  EXPECT_EQ(q4["bytes"], fs::file_size(dir + "/q4.gguf"));
  EXPECT_EQ(q4["from"], "fable-10m");
  EXPECT_EQ(q4["perplexity"][0]["ppl"], Json::parse(test::read_text(dir + "/c.json"))["ppl"]);
  EXPECT_EQ(q4["perplexity"][0]["base"], "f16");
  EXPECT_EQ(q4["bench"].size(), 3u);
  const std::string html = test::read_text(dir + "/report.html");
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>"));
  EXPECT_TRUE(html.ends_with("</html>\n"));
}

TEST(Report, NamesWhatItCannotReadAndGoesOn) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/broken.gguf", "GGUF");
  const Result result = run({"report", dir, "-o", dir + "/page.html"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find("broken.gguf"), std::string::npos) << result.err;
  EXPECT_NE(test::read_text(dir + "/page.html").find("broken.gguf"), std::string::npos);
  EXPECT_FALSE(fs::exists(dir + "/report.html"));
}

TEST(Tokenize, TheSameIdsFromCheckpointAndGguf) {
  const std::string text = "The old man said: \"It's 1234 o'clock!\"\n  <|eot_id|>";
  const Json a = Json::parse(run({"tokenize", "-m", fable(), "-p", text, "--json"}).out);
  const Json b = Json::parse(run({"tokenize", "-m", model(), "-p", text, "--json"}).out);
  EXPECT_EQ(a["ids"], b["ids"]);
  EXPECT_EQ(a["ids"].size(), a["pieces"].size());
  EXPECT_EQ(a["ids"][0], 4088);
  EXPECT_EQ(a["ids"].back(), 4092);
  const Json plain = Json::parse(run({"tokenize", "-m", model(), "-p", text, "--no-special", "--json"}).out);
  EXPECT_NE(plain["ids"][0], 4088);
  EXPECT_NE(plain["ids"].back(), 4092);
}

TEST(Run, GreedyIsRepeatableAndThreadsDoNotMatter) {
  const auto text = [](const char* threads) {
    return run({"run", "-m", model(), "-no-cnv", "-p", "It was a", "-n", "24", "--temp", "0", "-t", threads}).out;
  };
  const std::string one = text("1");
  EXPECT_EQ(one.rfind("It was a", 0), 0u) << "the prompt is not displayed: " << one;
  EXPECT_EQ(one, text("2"));
}

TEST(Run, HowTheModelIsLoadedAndWhereItRunsDoNotMatter) {
  const auto ids = [](std::vector<std::string> flags) {
    std::vector<std::string> arguments = {"run", "-m", model(), "-p", "It was a", "-n", "24", "--temp", "0", "--json"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Result result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.exit_code == 0 ? Json::parse(result.out)["ids"].dump() : "";
  };
  const std::string expected = ids({});
  for (const auto& flags : std::vector<std::vector<std::string>>{{"--no-mmap"}, {"--mlock"}, {"--no-mmap", "--mlock"}}) {
    EXPECT_EQ(ids(flags), expected) << flags.front();
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &set)) ++cpu;
  const std::string number = std::to_string(cpu);
  std::string mask = std::string(1, "1248"[cpu % 4]) + std::string(static_cast<size_t>(cpu / 4), '0');
  for (const auto& flags : std::vector<std::vector<std::string>>{{"-C", mask},
                                                                 {"--cpu-mask", "0x" + mask, "-t", "3"},
                                                                 {"-Cr", number + "-" + number, "-t", "1"},
                                                                 {"--cpu-range", number + "-" + number, "--cpu-strict", "1"},
                                                                 {"--cpu-strict", "1", "-t", "2"}}) {
    EXPECT_EQ(ids(flags), expected) << flags.front();
  }
}

TEST(Run, CpusThatThereAreNotAreRefused) {
  for (const auto& flags : std::vector<std::vector<std::string>>{{"-C", "xyz"}, {"-C", "0"}, {"-Cr", "3"}, {"-Cr", "5-4"}}) {
    std::vector<std::string> arguments = {"run", "-m", model(), "-p", "x", "-n", "1"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    EXPECT_EQ(run(arguments).exit_code, 2) << flags[0] << ' ' << flags[1];
  }
  const Result result = run({"run", "-m", model(), "-p", "x", "-n", "1", "-Cr", "4094-4095"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("4094"), std::string::npos) << result.err;
}

TEST(Run, SeedDecidesTheDraws) {
  const auto text = [](const char* seed) {
    return run({"run", "-m", model(), "-no-cnv", "--no-display-prompt", "-p", "It was a", "-n", "24", "-s", seed}).out;
  };
  EXPECT_EQ(text("1"), text("1"));
  EXPECT_NE(text("1"), text("2"));
}

TEST(Run, JsonHasIdsGapsAndRates) {
  const Result result = run({"run", "-m", model(), "-p", "It was a", "-n", "8", "--temp", "0", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["ids"].size(), 8u);
  EXPECT_EQ(json["gaps"].size(), 8u);
  EXPECT_EQ(json["prompt_ids"][0], 4088);
  EXPECT_EQ(json["stop"], "length");
  EXPECT_GT(json["tokens_per_second"], 0);
  EXPECT_GT(json["load_ms"], 0);
  EXPECT_GT(json["ttft_ms"], json["load_ms"].get<double>() + json["prompt_ms"].get<double>());
}

TEST(Run, ChatRemembersAndAnswersEachLine) {
  const Result result = run({"run", "-m", model(), "--temp", "0", "-n", "12", "-sys", "You are a story teller."}, "Hello\nTell me a story\n");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n') >= 2, true) << result.out;
  EXPECT_EQ(result.out.find("<|"), std::string::npos) << "control tokens are shown: " << result.out;
}

TEST(Run, ChatCommands) {
  const std::string dir = test::temp_dir();
  const auto chat = [](const std::string& input, std::vector<std::string> flags = {}) {
    std::vector<std::string> arguments = {"run", "-m", model(), "--temp", "0", "-n", "8", "-c", "512"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run(arguments, input);
  };
  const Result result = chat("/help\n/system Be brief.\n/system\nHello\n//not a command\n/save " + dir + "/a.json\n/clear\n/stats\n/save " + dir + "/b.json\n/exit\nnever said\n");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* said : {"/regenerate", "Be brief.", "tok/s", "of 512 tokens"}) EXPECT_NE(result.err.find(said), std::string::npos) << said;
  const Json saved = Json::parse(test::read_text(dir + "/a.json"));
  ASSERT_EQ(saved.size(), 5u);
  EXPECT_EQ(saved[0], Json({{"role", "system"}, {"content", "Be brief."}}));
  EXPECT_EQ(saved[3]["content"], "/not a command");
  EXPECT_EQ(saved[4]["role"], "assistant");
  EXPECT_EQ(Json::parse(test::read_text(dir + "/b.json")), Json::array({saved[0]}));
  // What was loaded goes on as if it had been said.
  const std::string direct = chat("Hello\nAnd then?\n").out;
  ASSERT_EQ(chat("Hello\n/save " + dir + "/c.json\n").exit_code, 0);
  const std::string first = chat("Hello\n").out;
  EXPECT_EQ(first + chat("/load " + dir + "/c.json\nAnd then?\n").out, direct);
  const Result wrong = chat("/lod x\n");
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.err.find("no command /lod"), std::string::npos) << wrong.err;
  test::write_text(dir + "/d.json", "{\"messages\": [1]}");
  EXPECT_NE(chat("/load " + dir + "/d.json\n").err.find("a message is"), std::string::npos);
}

TEST(Run, PromptsAreKept) {
  const std::string dir = test::temp_dir(), file = dir + "/a.kv", prompt = "Once upon a time there was a king who had three daughters";
  const auto answer = [&](const std::string& text, std::vector<std::string> flags) {
    std::vector<std::string> arguments = {"run", "-m", model(), "-p", text, "-n", "6", "--temp", "0", "--json", "--prompt-cache", file};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Result result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    Json json = Json::parse(result.out);
    json["err"] = result.err;
    return json;
  };
  const Json first = answer(prompt, {}), again = answer(prompt, {"--prompt-cache-ro"}), longer = answer(prompt + " and a horse", {"--prompt-cache-ro"});
  EXPECT_EQ(first["cached_tokens"], 0);
  EXPECT_EQ(again["cached_tokens"].get<size_t>(), first["prompt_ids"].size() - 1);
  EXPECT_EQ(again["text"], first["text"]);
  EXPECT_GE(longer["cached_tokens"].get<size_t>(), first["prompt_ids"].size() - 1);
  EXPECT_LE(answer("A dog", {"--prompt-cache-ro"})["cached_tokens"], 1);
  // A file that cannot be used is said, and written anew.
  for (const char* flags : {"f32", "q8_0"}) EXPECT_NE(answer(prompt, {"-ctk", flags, "--prompt-cache-ro"})["err"].get<std::string>().find("kept otherwise"), std::string::npos);
  auto bytes = test::read_bytes(file);
  bytes[bytes.size() / 2] ^= std::byte{1};
  test::write_bytes(file, bytes);
  EXPECT_NE(answer(prompt, {})["err"].get<std::string>().find("damaged"), std::string::npos);
  EXPECT_GT(answer(prompt, {})["cached_tokens"], 0);
  bytes.resize(bytes.size() - 7);
  test::write_bytes(file, bytes);
  EXPECT_NE(answer(prompt, {"--prompt-cache-ro"})["err"].get<std::string>().find("damaged"), std::string::npos);
  test::write_text(file, "hello");
  EXPECT_NE(answer(prompt, {})["err"].get<std::string>().find("no saved session"), std::string::npos);
  // A chat keeps all of it.
  std::filesystem::remove(file);
  const auto chat = [&] { return run({"run", "-m", model(), "--temp", "0", "-n", "8", "-sys", "You tell stories of kings and horses.", "--prompt-cache", file}, "Hello\n"); };
  const Result one = chat();
  ASSERT_EQ(one.exit_code, 0) << one.err;
  ASSERT_TRUE(std::filesystem::exists(file));
  EXPECT_EQ(chat().out, one.out);
}

TEST(Run, AnswersHaveTheFormThatIsAskedFor) {
  const auto answer = [](std::vector<std::string> flags) {
    std::vector<std::string> arguments = {"run", "-m", model(), "-no-cnv", "--no-display-prompt", "-p", "A knight", "-n", "80", "-s", "1"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run(arguments);
  };
  EXPECT_EQ(answer({"--grammar", "root ::= \"ab\"{3}"}).out, "ababab\n");
  const std::string dir = test::temp_dir(), schema = R"({"properties": {"n": {"type": "integer", "maximum": 5, "minimum": 1}}, "required": ["n"]})";
  test::write_text(dir + "/schema.json", schema);
  test::write_text(dir + "/grammar.gbnf", "root ::= \"yes\" | \"no\"\n");
  for (const auto& flags : std::vector<std::vector<std::string>>{{"-j", schema}, {"-jf", dir + "/schema.json"}}) {
    const auto json = parse_json(answer(flags).out);
    ASSERT_TRUE(json.has_value());
    EXPECT_LE((*json)["n"], 5);
  }
  const std::string said = answer({"--grammar-file", dir + "/grammar.gbnf"}).out;
  EXPECT_TRUE(said == "yes\n" || said == "no\n") << said;
  // Each prompt of a file begins the grammar anew.
  test::write_text(dir + "/prompts.txt", "One\nTwo\nThree\n");
  EXPECT_EQ(run({"run", "-m", model(), "-no-cnv", "--prompts", dir + "/prompts.txt", "--answers-only", "-np", "2", "--grammar", "root ::= \"ab\"{3}"}).out,
            "ababab\n\nababab\n\nababab\n\n");
  const Result wrong = answer({"--grammar", "root ::= ["});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.err.find("--grammar: grammar: line 1"), std::string::npos) << wrong.err;
  EXPECT_NE(answer({"-j", R"({"not": {}})"}).err.find("\"not\""), std::string::npos);
  EXPECT_EQ(answer({"-j", "{}", "--grammar", "root ::= \"a\""}).exit_code, 2);
}

TEST(Run, TooLongAPromptIsRefusedWithTheNumbers) {
  std::string prompt;
  for (int i = 0; i < 400; ++i) prompt += "word ";
  const Result result = run({"run", "-m", model(), "-no-cnv", "-p", prompt, "-c", "64"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("64"), std::string::npos) << result.err;
}

TEST(Run, AContextThatDoesNotFitIsRefusedWithOneThatDoes) {
  const Result result = run({"run", "-m", model(), "-no-cnv", "-p", "x", "-c", "16777216", "-ctk", "f32", "-ctv", "f32"});
  if (result.exit_code == 0) GTEST_SKIP() << "this machine has the memory";
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("use -c "), std::string::npos) << result.err;
}

TEST(Perplexity, JsonOfAQuantizedFileAgainstItsBase) {
  const std::string text = test::source_dir() + "/models/fable-10m/eval.txt";
  const Result result = run({"perplexity", "-m", model("Q4_K_M"), "-f", text, "--chunks", "3", "--kl-base", model("F16"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["tokens"], 3 * 255);
  EXPECT_GT(json["kld_mean"], 0);
  EXPECT_LT(json["kld_mean"], 0.05);
  EXPECT_GT(json["top1"], 0.8);
}

TEST(MakeCheckpoint, OutliersChangeTheWeightsAndNotThePredictions) {
  const std::string temp = test::temp_dir(), dir = temp + "/outliers";
  const std::string command = std::string(SHOEHORN_MAKE_CHECKPOINT) + " --from " + fable() + " --outliers --dtype f32 -o " + dir + " > /dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0);
  for (const auto& [from, to] : {std::pair{dir, "outliers-f32.gguf"}, std::pair{fable(), "plain-f32.gguf"}}) {
    const Result converted = run({"convert", from, temp + "/" + to, "--type", "f32"});
    ASSERT_EQ(converted.exit_code, 0) << converted.err;
  }
  const std::string outliers = temp + "/outliers-f32.gguf", plain = temp + "/plain-f32.gguf";
  const auto kl = [&](const std::string& file) {
    const Result result = run({"perplexity", "-m", file, "-f", fable() + "/eval.txt", "--chunks", "3", "--kl-base", plain, "-ctk", "f32", "-ctv", "f32", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out)["kld_mean"].get<double>();
  };
  EXPECT_LT(std::abs(kl(outliers)), 1e-6);
  // And yet it is another model to a quantizer.
  const auto quantized_kl = [&](const std::string& file) {
    const std::string small = file + ".q3_k";
    const Result result = run({"quantize", file, small, "Q3_K_S"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return kl(small);
  };
  EXPECT_GT(quantized_kl(outliers), 1.2 * quantized_kl(plain));
}

TEST(Bench, JsonIsLlamaBenchsArrayAndOurKeys) {
  const Result result = run({"bench", "-m", model(), "-p", "16,32", "-n", "4", "-pg", "8,2", "-d", "0,8", "-r", "2", "-t", "1,2",
                             "-b", "64", "-ub", "16", "-ctk", "q8_0", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json tests = Json::parse(result.out);
  ASSERT_EQ(tests.size(), 2u * 2u * 4u);
  for (const Json& test : tests) {
    for (const char* key : {"build_commit", "cpu_info", "backends", "model_filename", "model_type", "model_size", "model_n_params",
                            "n_batch", "n_ubatch", "n_threads", "type_k", "type_v", "n_prompt", "n_gen", "n_depth", "test_time",
                            "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts", "ttft_ms", "ttlt_ms",
                            "peak_rss", "mbu", "read_gbs", "int8_gmacs", "joules", "logits_hash", "answer_ts", "kv_bytes",
                            "weight_bytes_per_token", "mbu_peak", "peak_gbs", "load_ms", "load_first_token_ms", "load_state", "tainted",
                            "taints", "temperature_c", "mhz", "power_source", "power_trouble", "tokens_per_joule", "words_per_battery"}) {
      EXPECT_TRUE(test.contains(key)) << key;
    }
    for (const char* key : {"samples_unix", "samples_temperature_c", "samples_mhz", "samples_throttle_events", "samples_pi_flags",
                            "samples_others_cpus", "samples_waiting", "samples_taints"}) {
      EXPECT_EQ(test[key].size(), 2u) << key;
    }
    EXPECT_GT(test["kv_bytes"], 0);
    EXPECT_FALSE(test.contains("profile"));
    EXPECT_EQ(test["samples_ns"].size(), 2u);
    EXPECT_GT(test["avg_ts"], 0);
    EXPECT_GT(test["mbu"], 0);
    EXPECT_EQ(test["logits_hash"], tests[0]["logits_hash"]);
  }
  const Json& last = tests.back();
  EXPECT_EQ(last["n_threads"], 2);
  EXPECT_EQ(last["n_prompt"], 8);
  EXPECT_EQ(last["n_gen"], 2);
  EXPECT_EQ(last["n_depth"], 8);
  EXPECT_EQ(last["n_batch"], 64);
  EXPECT_EQ(last["n_ubatch"], 16);
  EXPECT_EQ(last["type_k"], "q8_0");
  EXPECT_EQ(last["model_n_params"], 9703680);
  EXPECT_EQ(last["model_type"], "llama 9.70 M Q8_0");
  EXPECT_EQ(last["test_time"].get<std::string>().size(), std::string("2026-01-01T00:00:00Z").size());
}

TEST(Bench, TheTableHasARowPerTestAndTheHashBelow) {
  const Result result = run({"bench", "-m", model(), "-p", "16", "-n", "4", "-r", "2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out.rfind("| model ", 0), 0u) << result.out;
  for (const char* part : {"| pp16 |", "|  tg4 |", " ± ", " % |", "\n\nlogits hash ", "GB/s, multiplies ", " GMAC/s"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
  }
}

TEST(Bench, ACopyOfTheFileComputesTheSame) {
  const auto hash = [](std::vector<std::string> arguments) {
    const Result result = run(std::move(arguments));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const size_t at = result.out.find("logits hash ");
    return at == std::string::npos ? result.out : result.out.substr(at, std::string("logits hash 0123456789abcdef").size());
  };
  EXPECT_EQ(hash({"bench", "-m", model(), "-p", "8", "-n", "2", "-r", "1", "--no-mmap"}), hash({"bench", "-m", model(), "-p", "8", "-n", "2", "-r", "1"}));
}

TEST(Bench, TheProfileSharesOutTheTimeOfATest) {
  const std::vector<std::string> arguments = {"bench", "-m", model(), "-p", "16", "-n", "4", "-r", "1", "--profile", "--peak-gbs", "20"};
  const Result table = run(arguments);
  ASSERT_EQ(table.exit_code, 0) << table.err;
  for (const char* part : {"| mbu peak |", "| pp16, ", "| tg4, ", "| q, k, v product ", "| output matrix ", "| of int8 |", " of weights per generated token; load "}) {
    EXPECT_NE(table.out.find(part), std::string::npos) << part << "\n" << table.out;
  }
  auto json = arguments;
  json.insert(json.end(), {"-o", "json"});
  for (const Json& test : Json::parse(run(json).out)) {
    double share = 0;
    for (const Json& op : test["profile"]) share += op["share"].get<double>();
    EXPECT_NEAR(share, 1, 1e-9);
    EXPECT_GE(test["profile"].size(), 10u);
    EXPECT_NEAR(test["mbu_peak"].get<double>() * 20, test["mbu"].get<double>() * test["read_gbs"].get<double>(), 1e-6);
  }
}

/// A meter's log, 50 samples a second of `watts`, from `from` to `to` seconds relative to now.
std::string meter_log(double watts, int from, int to) {
  const auto now = static_cast<int64_t>(std::time(nullptr));
  std::string text = "time_s,voltage (V),current (mA)\n";
  for (int64_t t = now + from; t < now + to; ++t) {
    for (int i = 0; i < 50; ++i) text += std::to_string(t) + (i < 5 ? ".0" : ".") + std::to_string(2 * i) + ",5," + std::to_string(200 * watts) + "\n";
  }
  const std::string path = test::temp_dir() + "/meter.csv";
  test::write_text(path, text);
  return path;
}

TEST(Bench, EnergyComesFromAMetersLog) {
  const Result result = run({"bench", "-m", model(), "-p", "0", "-n", "300", "-r", "2", "-t", "1", "--power-csv", meter_log(4, -10, 300),
                             "--idle-seconds", "0.3", "--battery-wh", "10", "--words-per-token", "0.5", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json test = Json::parse(result.out)[0];
  ASSERT_FALSE(test["joules"].is_null()) << test["power_trouble"];
  EXPECT_EQ(test["power_source"], "csv");
  EXPECT_TRUE(test["power_trouble"].is_null()) << test["power_trouble"];
  const double expected = 4 * test["avg_ns"].get<double>() * 1e-9;
  EXPECT_GT(test["joules"], 0.98 * expected);
  EXPECT_LT(test["joules"], expected + 4 * 0.5) << "the window is longer than what was timed by more than a moment";
  EXPECT_NEAR(test["watts"].get<double>(), 4, 1e-3);
  EXPECT_NEAR(test["idle_watts"].get<double>(), 4, 1e-3);
  EXPECT_NEAR(test["tokens_per_joule"].get<double>() * test["joules"].get<double>(), 300, 1e-6);
  EXPECT_NEAR(test["words_per_battery"].get<double>(), 36000 * test["tokens_per_joule"].get<double>() * 0.5, 1e-3);
  EXPECT_EQ(test["samples_joules"].size(), 2u);
  EXPECT_GT(test["power_over_time"].size(), 4u);
}

TEST(Bench, ALogOfAnotherTimeGivesNoFigureAndTheReason) {
  const std::string log = meter_log(4, -200, -190);
  const Result result = run({"bench", "-m", model(), "-p", "0", "-n", "50", "-r", "1", "--power-csv", log, "--idle-seconds", "0", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json test = Json::parse(result.out)[0];
  for (const char* key : {"joules", "watts", "idle_watts", "joules_per_token", "tokens_per_joule", "words_per_battery"}) EXPECT_TRUE(test[key].is_null()) << key;
  EXPECT_NE(test["power_trouble"].get<std::string>().find("the samples cover"), std::string::npos) << test["power_trouble"];
  const Result table = run({"bench", "-m", model(), "-p", "0", "-n", "50", "-r", "1", "--power-csv", log, "--idle-seconds", "0"});
  EXPECT_NE(table.out.find("tg50: 1 of 1 repetitions have no figure: the samples cover"), std::string::npos) << table.out;
}

TEST(Bench, ASourceThatIsAskedForAndAbsentIsAnError) {
  const Result pmic = run({"bench", "-m", model(), "-p", "1", "-n", "0", "-r", "1", "--power-source", "pmic"});
  EXPECT_EQ(pmic.exit_code, 1);
  EXPECT_NE(pmic.err.find("pmic: not a Raspberry Pi 5"), std::string::npos) << pmic.err;
  EXPECT_EQ(run({"bench", "-m", model(), "--power-source", "crystal-ball"}).exit_code, 2);
  EXPECT_EQ(run({"bench", "-m", model(), "--power-csv", "/no/such/meter.csv"}).exit_code, 1);
  const Result none = run({"bench", "-m", model(), "-p", "4", "-n", "0", "-r", "1", "--power-source", "none"});
  EXPECT_EQ(none.exit_code, 0);
  EXPECT_NE(none.out.find("energy unavailable: not asked for"), std::string::npos) << none.out;
}

TEST(Bench, AColdStartDropsTheFileFromThePageCache) {
  const std::string copy = test::temp_dir() + "/model.gguf";
  fs::copy_file(model(), copy);
  const Result result = run({"bench", "-m", copy, "-p", "1", "-n", "0", "-r", "1", "--cold-start", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json test = Json::parse(result.out)[0];
  EXPECT_GE(test["load_first_token_ms"], test["load_ms"]);
  // On a file system in memory nothing can be dropped, and that is said.
  if (test["load_state"] != "cold") {
    EXPECT_NE(result.err.find("page cache"), std::string::npos) << result.err;
  }
}

TEST(Bench, CsvHasAHeaderAndARowPerTest) {
  const Result result = run({"bench", "-m", model(), "-p", "16", "-n", "4", "-r", "1", "-o", "csv"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 3);
  EXPECT_EQ(result.out.rfind("build_commit,", 0), 0u) << result.out;
  for (const char* column : {",joules,", ",tainted,", ",taints,", ",mhz,"}) EXPECT_NE(result.out.find(column), std::string::npos) << column;
}

TEST(Bench, ATestThatDoesNotFitTheContextIsRefusedWithTheLimit) {
  const Result result = run({"bench", "-m", model(), "-p", "100", "-n", "4", "-c", "64"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_NE(result.err.find("pp100 needs 100 positions, the context has 64"), std::string::npos) << result.err;
}

TEST(Bench, WrongValuesAreRefused) {
  EXPECT_EQ(run({"bench", "-m", model(), "-o", "xml"}).exit_code, 2);
  EXPECT_EQ(run({"bench", "-m", model(), "-p", "12,x"}).exit_code, 2);
  EXPECT_EQ(run({"bench", "-m", model(), "-r", "0"}).exit_code, 2);
  EXPECT_EQ(run({"bench", "-m", model(), "-p", "0", "-n", "0"}).exit_code, 1);
  EXPECT_EQ(run({"bench", "-m", model(), "-pg", "5"}).exit_code, 1);
  const Result type = run({"bench", "-m", model(), "-ctk", "q99"});
  EXPECT_EQ(type.exit_code, 1);
  EXPECT_NE(type.err.find("q99"), std::string::npos);
}

TEST(Quantize, RefusesToWriteOverItsInput) {
  const std::string copy = test::temp_dir() + "/model.gguf";
  fs::copy_file(model("F16"), copy);
  const Result result = run({"quantize", copy, copy, "Q8_0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(test::read_bytes(copy), test::read_bytes(model("F16")));
}

TEST(Quantize, TellsHowFarTheOutputIsFromItsSource) {
  const std::string dir = test::temp_dir(), checked = dir + "/checked.gguf", unchecked = dir + "/unchecked.gguf";
  const Result result = run({"quantize", fable(), checked, "Q3_K_M", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json check = Json::parse(result.out)["check"];
  EXPECT_EQ(check["tokens"], 1020);
  EXPECT_EQ(check["text"], "bundled");
  EXPECT_GT(check["kld_mean"], 0.005);
  EXPECT_LT(check["kld_mean"], 0.1);
  EXPECT_GT(check["sentence"].get<std::string>().size(), 20u);

  // The file says it too, as numbers, and in the sentence's fixed room.
  const auto value = [](const std::string& path, const char* key) { return io::GgufFile::open(path)->metadata().get_float(key); };
  EXPECT_NEAR(*value(checked, "shoehorn.check.kld_mean"), check["kld_mean"].get<double>(), 1e-6);
  EXPECT_NEAR(*value(checked, "shoehorn.check.source_ppl"), check["source_ppl"].get<double>(), 1e-4);
  const auto file = io::GgufFile::open(checked);
  EXPECT_TRUE(file->metadata().get_string("shoehorn.check.sentence")->starts_with(check["sentence"].get<std::string>()));
  EXPECT_EQ(file->metadata().get_uint("shoehorn.check.tokens"), 1020u);
  // It is what perplexity measures on the same text, with the checkpoint itself as the base.
  const std::string text = dir + "/text.txt";
  test::write_text(text, test::read_text(fable() + "/eval.txt").substr(0, 15000));
  const Result same = run({"perplexity", "-m", checked, "-f", text, "--chunks", "4", "--kl-base", fable(), "--json"});
  ASSERT_EQ(same.exit_code, 0) << same.err;
  EXPECT_NEAR(Json::parse(same.out)["kld_mean"].get<double>(), check["kld_mean"].get<double>(), 1e-4);

  const Result quick = run({"quantize", fable(), unchecked, "Q3_K_M", "--no-check", "--json"});
  ASSERT_EQ(quick.exit_code, 0) << quick.err;
  EXPECT_TRUE(Json::parse(quick.out)["check"].is_null());
  EXPECT_FALSE(value(unchecked, "shoehorn.check.kld_mean").has_value());
  // What was found of a model is not said of what is made of it.
  const std::string again = dir + "/again.gguf";
  ASSERT_EQ(run({"quantize", checked, again, "Q2_K", "--allow-requantize", "--no-check"}).exit_code, 0);
  EXPECT_FALSE(value(again, "shoehorn.check.kld_mean").has_value());
}

TEST(Quantize, MeasuresOnTheTextThatIsGiven) {
  const std::string dir = test::temp_dir(), text = dir + "/mine.txt", out = dir + "/out.gguf";
  test::write_text(text, test::read_text(fable() + "/calib.txt").substr(0, 20000));
  const Result result = run({"quantize", fable(), out, "Q4_K_M", "--check-file", text, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(Json::parse(result.out)["check"]["text"], text);
  // Too little of it is a remark, not a failure.
  test::write_text(text, "Too short.");
  const Result unmeasured = run({"quantize", fable(), out, "Q4_K_M", "--check-file", text});
  EXPECT_EQ(unmeasured.exit_code, 0);
  EXPECT_NE(unmeasured.err.find("not checked"), std::string::npos) << unmeasured.err;
  EXPECT_EQ(io::GgufFile::open(out)->metadata().get_uint("shoehorn.check.tokens"), 0u);
}

TEST(Cli, ACheckpointRunsWhereItLies) {
  const std::vector<std::string> said = {"-no-cnv", "-p", "Once upon a time", "-n", "12", "--temp", "0"};
  const auto says = [&](const std::string& model) {
    std::vector<std::string> arguments = {"run", "-m", model};
    arguments.insert(arguments.end(), said.begin(), said.end());
    const Result result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  EXPECT_EQ(says(fable()), says(model("F16")));
}

TEST(Quantize, AKilledRunLeavesNoFile) {
  const std::string dir = test::temp_dir();
  for (const int signal : {SIGKILL, SIGTERM, SIGINT}) {
    for (const int after_ms : {5, 40, 90}) {
      const std::string out = dir + "/out.gguf";
      const pid_t pid = fork();
      if (pid == 0) {
        execl(SHOEHORN_BINARY, SHOEHORN_BINARY, "quantize", fable().c_str(), out.c_str(), "Q2_K", "-q", "-t", "1", nullptr);
        _exit(127);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(after_ms));
      kill(pid, signal);
      int status = 0;
      waitpid(pid, &status, 0);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) fs::remove(out);  // it was faster than the signal
      EXPECT_TRUE(fs::is_empty(dir)) << "signal " << signal << " after " << after_ms << " ms left something behind";
      for (const auto& entry : fs::directory_iterator(dir)) fs::remove(entry.path());
    }
  }
}

std::string eval_text() { return fable() + "/eval.txt"; }

TEST(Imatrix, CollectsMergesAndQuantizes) {
  const std::string dir = test::temp_dir(), a = dir + "/a.gguf", b = dir + "/b.dat", both = dir + "/both.gguf";
  const Result first = run({"imatrix", "-m", model("F16"), "-f", eval_text(), "-o", a, "-c", "128", "--chunks", "4", "--process-output", "--json"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_NE(first.err.find("512 tokens only"), std::string::npos) << first.err;
  const Json json = Json::parse(first.out);
  EXPECT_EQ(json["entries"], 57);
  EXPECT_EQ(json["chunks"], 4);
  EXPECT_EQ(json["tokens"], 512);
  EXPECT_EQ(json["datasets"], Json::array({eval_text()}));
  EXPECT_FALSE(fs::exists(a + ".state"));

  // The next four chunks and the first four are all eight.
  const auto chunks = [&](const std::string& out, std::vector<std::string> which) {
    std::vector<std::string> arguments = {"imatrix", "-q", "-m", model("F16"), "-f", eval_text(), "-o", out, "-c", "128", "--process-output"};
    arguments.insert(arguments.end(), which.begin(), which.end());
    const Result result = run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  chunks(b, {"--chunks", "4", "--from-chunk", "4"});
  chunks(dir + "/eight.gguf", {"--chunks", "8"});
  const Result merged = run({"imatrix", "--in-file", a, "--in-file", b, "-c", "128", "-o", both, "--json"});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  EXPECT_EQ(Json::parse(merged.out)["chunks"], 8);
  chunks(dir + "/added.gguf", {"--chunks", "4", "--chunk", "4", "--in-file", a});
  const Json added = Json::parse(run({"imatrix", "--in-file", dir + "/added.gguf", "-o", dir + "/copy.gguf", "--json"}).out);
  EXPECT_EQ(added["tokens"], 1024);

  const std::string out = dir + "/q2.gguf";
  const Result quantized = run({"quantize", model("F16"), out, "Q2_K", "--imatrix", both, "--json"});
  ASSERT_EQ(quantized.exit_code, 0) << quantized.err;
  EXPECT_EQ(Json::parse(quantized.out)["imatrix"]["chunks"], 8);
  const auto divergence = [&](const std::string& path) {
    const Result result = run({"perplexity", "-m", path, "-f", eval_text(), "-c", "128", "--chunks", "8", "--kl-base", model("F16"), "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out)["kld_mean"].get<double>();
  };
  EXPECT_LT(divergence(out), divergence(model("Q2_K")));
}

TEST(Imatrix, AKilledRunGoesOnAndWritesTheSame) {
  const std::string dir = test::temp_dir(), whole = dir + "/whole.gguf", out = dir + "/out.gguf";
  std::vector<std::string> arguments = {"imatrix", "-q", "-m", model("F16"), "-f", eval_text(), "-c", "128", "--chunks", "120", "--output-frequency", "4", "-o"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  ASSERT_EQ(run(with({whole})).exit_code, 0);
  int interrupted = 0;
  for (const int signal : {SIGKILL, SIGINT, SIGKILL, SIGTERM, SIGKILL}) {
    test::Program program(with({out, "--resume", "-t", interrupted % 2 == 0 ? "1" : "2"}));
    std::this_thread::sleep_for(std::chrono::milliseconds(150 + 60 * interrupted));
    program.signal(signal);
    if (program.wait().exit_code == 0) break;
    EXPECT_FALSE(fs::exists(out)) << "half a matrix was written";
    ++interrupted;
  }
  EXPECT_GT(interrupted, 0);
  if (fs::exists(out + ".state")) {
    const Result refused = run(with({out}));
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.err.find("--resume"), std::string::npos) << refused.err;
  }
  const Result last = run(with({out, "--resume"}));
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(test::read_bytes(out), test::read_bytes(whole));
  EXPECT_FALSE(fs::exists(out + ".state"));
}

// Slow is said for the sanitizers, which take memory of their own.
TEST(SlowImatrix, StaysWithinItsMemoryOrSaysWhatItNeeds) {
  const std::string dir = test::temp_dir();
  const auto with_ram = [&](const std::string& ram) {
    return run({"imatrix", "-m", model("F16"), "-f", eval_text(), "-c", "64", "-b", "64", "-t", "1", "--chunks", "40", "-o", dir + "/" + ram, "--ram", ram, "--json"});
  };
  const Result roomy = with_ram("8G"), refused = with_ram("8M");
  ASSERT_EQ(roomy.exit_code, 0) << roomy.err;
  EXPECT_EQ(roomy.err.find("a layer at a time"), std::string::npos) << roomy.err;
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("8.00 MiB are allowed"), std::string::npos) << refused.err;
  // Enough for a layer and less than for the file: 18.6 MiB of weights, of which a layer is 1.8.
  const double needed = std::stod(refused.err.substr(refused.err.find(" takes ") + 7));
  const std::string ram = std::to_string(static_cast<int>(needed) + 6) + "M";
  const Result tight = with_ram(ram);
  ASSERT_EQ(tight.exit_code, 0) << tight.err;
  EXPECT_NE(tight.err.find("a layer at a time"), std::string::npos) << tight.err;
  EXPECT_LE(Json::parse(tight.out)["peak_rss"].get<double>(), (needed + 6) * (1 << 20));
  EXPECT_EQ(test::read_bytes(dir + "/" + ram), test::read_bytes(dir + "/8G"));
}

TEST(Imatrix, SaysWhenTheTextIsOfAnotherKind) {
  const std::string dir = test::temp_dir(), digits = dir + "/digits.txt";
  std::string text;
  for (int i = 0; i < 4000; ++i) text += std::to_string(i * 7919) + "\n";
  test::write_text(digits, text);
  const Result result = run({"imatrix", "-m", model("F16"), "-f", eval_text(), "-o", dir + "/a.gguf", "-c", "64", "--chunks", "2", "--eval-file", digits, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("another kind of text"), std::string::npos) << result.err;
  EXPECT_EQ(Json::parse(result.out)["eval_file"]["unlike"], true);
}

TEST(Imatrix, WrongUsageIsRefused) {
  EXPECT_EQ(run({"imatrix", "-m", model()}).exit_code, 2);
  EXPECT_EQ(run({"imatrix", "-f", eval_text()}).exit_code, 2);
  EXPECT_EQ(run({"imatrix", "-m", model(), "-f", eval_text(), "--ram", "lots"}).exit_code, 2);
  EXPECT_EQ(run({"imatrix", "-m", model(), "-f", eval_text(), "--ram", "1G", "--no-mmap"}).exit_code, 2);
  EXPECT_EQ(run({"imatrix"}).exit_code, 1);
  const std::string copy = test::temp_dir() + "/model.gguf";
  fs::copy_file(model(), copy);
  EXPECT_EQ(run({"imatrix", "-m", copy, "-f", eval_text(), "-o", copy, "-c", "64", "--chunks", "2"}).exit_code, 1);
  EXPECT_EQ(test::read_bytes(copy), test::read_bytes(model()));
  const Result no_matrix = run({"imatrix", "--in-file", model(), "-o", test::temp_dir() + "/x.gguf"});
  EXPECT_EQ(no_matrix.exit_code, 1);
  EXPECT_NE(no_matrix.err.find("not an importance matrix"), std::string::npos) << no_matrix.err;
}

TEST(Verify, SaysGoodOrWhy) {
  EXPECT_EQ(run({"verify", model()}).exit_code, 0);
  EXPECT_EQ(run({"verify", fable()}).exit_code, 0);
  auto bytes = test::read_bytes(model());
  bytes.resize(bytes.size() / 2);
  const std::string cut = test::temp_dir() + "/cut.gguf";
  test::write_bytes(cut, bytes);
  const Result result = run({"verify", cut, "--json"});
  EXPECT_EQ(result.exit_code, 1);
  const Json json = Json::parse(result.out);
  EXPECT_EQ(json["ok"], false);
  EXPECT_NE(json["reason"].get<std::string>().find("past the end"), std::string::npos);
}

TEST(Verify, ComparesWithTheSourceAndWithAManifest) {
  const Result deep = run({"verify", model(), "--deep", fable(), "--json"});
  ASSERT_EQ(deep.exit_code, 0) << deep.err;
  const Json json = Json::parse(deep.out);
  EXPECT_EQ(json["hashes"]["compared_to"], "shoehorn.hash.sha256");
  EXPECT_EQ(json["hashes"]["same"], json["tensors"]);
  EXPECT_EQ(json["differences"].size(), json["tensors"]);
  EXPECT_EQ(json["chat_template"]["system"], true);

  const std::string dir = test::temp_dir(), copy = dir + "/copy.gguf";
  fs::copy_file(model(), copy);
  ASSERT_EQ(run({"verify", copy, "--write-manifest", "-q"}).exit_code, 0);
  EXPECT_NE(test::read_text(copy + ".manifest").find("copy.gguf:blk.0.attn_q.weight\n"), std::string::npos);
  const Result with_manifest = run({"verify", copy});
  EXPECT_EQ(with_manifest.exit_code, 0);
  EXPECT_NE(with_manifest.out.find(copy + ".manifest says"), std::string::npos) << with_manifest.out;
  auto bytes = test::read_bytes(copy);
  bytes[bytes.size() - 100] ^= std::byte{1};
  test::write_bytes(copy, bytes);
  const Result changed = run({"verify", copy});
  EXPECT_EQ(changed.exit_code, 1);
  EXPECT_NE(changed.err.find("its bytes were changed"), std::string::npos) << changed.err;
}

}  // namespace
}  // namespace shoehorn
