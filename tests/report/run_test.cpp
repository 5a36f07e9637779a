#include "report/run.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "run_fixture.h"
#include "support/support.h"

namespace shoehorn::report {
namespace {

namespace fs = std::filesystem;

const RunFile* file_of(const Run& run, const std::string& path) {
  const auto found = std::ranges::find(run.files, path, &RunFile::path);
  return found == run.files.end() ? nullptr : &*found;
}

const Variant* variant_of(const Run& run, const std::string& label) {
  const auto found = std::ranges::find(run.variants, label, &Variant::label);
  return found == run.variants.end() ? nullptr : &*found;
}

TEST(ReadRun, FindsModelsAndWhatTheyHold) {
  const std::string dir = test::new_run();
  test::add_gguf(dir, "small.gguf", "Q4_K_M");
  const auto run = test::read(dir);
  ASSERT_EQ(run.variants.size(), 2u);
  const Variant* tiny = variant_of(run, "tiny");
  const Variant* small = variant_of(run, "small");
  ASSERT_NE(tiny, nullptr);
  ASSERT_NE(small, nullptr);
  EXPECT_EQ(tiny->format, "F32 checkpoint");
  EXPECT_EQ(small->format, "Q4_K_M");
  EXPECT_EQ(small->bytes, static_cast<double>(fs::file_size(dir + "/small.gguf")));
  EXPECT_EQ(small->parameters, tiny->parameters);
  EXPECT_LT(small->bits_per_weight, 8);
  EXPECT_EQ(run.n_bad(), 0u);
}

TEST(ReadRun, RecordsAreKnownByWhatIsInThemNotByTheirNames) {
  const std::string dir = test::new_run();
  test::add_gguf(dir, "small.gguf", "Q8_0");
  test::add_json(dir, "one.json", test::perplexity_record("small.gguf", "base-F16.gguf"));
  test::add_json(dir, "two.json",
                 Json::array({test::bench_record("small.gguf", 512, 0), test::bench_record("small.gguf", 0, 128)}));
  test::add_json(dir, "three.json", test::prune_record("big", "pruned"));
  test::add_json(dir, "four.json", test::heal_record("pruned", "tiny"));
  test::add_json(dir, "five.json", test::quantize_record("tiny", "small.gguf", "Q8_0"));
  test::add_json(dir, "six.json", {{"file", "small.gguf"}, {"ok", true}});
  test::add_json(dir, "seven.json", {{"something", "else"}});
  const auto run = test::read(dir);
  EXPECT_EQ(run.qualities.size(), 1u);
  EXPECT_EQ(run.rates.size(), 2u);
  ASSERT_EQ(run.steps.size(), 3u);
  const VariantId small = static_cast<VariantId>(variant_of(run, "small") - run.variants.data());
  EXPECT_EQ(run.qualities[0].variant, small);
  EXPECT_EQ(run.rates[1].variant, small);
  const Step* quantize = run.maker(small);
  ASSERT_NE(quantize, nullptr);
  EXPECT_EQ(quantize->command, "quantize");
  const Step* heal = run.maker(quantize->in);
  ASSERT_NE(heal, nullptr);
  EXPECT_EQ(heal->command, "heal");
  EXPECT_EQ(heal->losses.size(), 100u);
  const Step* prune = run.maker(heal->in);
  ASSERT_NE(prune, nullptr);
  EXPECT_EQ(run.variants[prune->in].label, "big");
  EXPECT_FALSE(run.variants[prune->in].inside);
  EXPECT_EQ(file_of(run, "one.json")->what, "perplexity of small");
  EXPECT_EQ(file_of(run, "two.json")->what, "bench of small, 2 tests");
  EXPECT_EQ(file_of(run, "six.json")->what, "verify of small.gguf: good");
  EXPECT_EQ(file_of(run, "seven.json")->what, "JSON of something else");
}

TEST(ReadRun, ARotationIsAStepWithItsLossesAndWhatItCost) {
  const std::string dir = test::new_run();
  test::add_json(dir, "rotate.json", test::rotate_record("big", "turned"));
  Json plain = test::rotate_record("turned", "turned again");
  plain["learned"] = nullptr;
  test::add_json(dir, "again.json", plain);
  Json rounded = test::perplexity_record("turned.gguf", "");
  rounded["activation_bits"] = 4;
  test::add_json(dir, "rounded.json", rounded);
  const auto run = test::read(dir);
  ASSERT_EQ(run.steps.size(), 2u);
  const Step& step = run.steps[0].losses.empty() ? run.steps[1] : run.steps[0];
  EXPECT_EQ(step.command, "rotate");
  EXPECT_EQ(step.losses, (std::vector<double>{0.07, 0.06, 0.05}));
  EXPECT_EQ(step.validation_after, 0.054);
  EXPECT_EQ(step.kld_mean, 0.00002);
  EXPECT_EQ(file_of(run, "rotate.json")->what, "rotate: big to turned");
  EXPECT_EQ(file_of(run, "rounded.json")->what, "perplexity of turned.gguf with activations of 4 bits");
  EXPECT_TRUE(run.qualities.empty()) << "what a model would be on other hardware is not what it is";
}

TEST(ReadRun, LinesOfJsonAreRecordsToo) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/all.jsonl", test::perplexity_record("a.gguf", "").dump() + "\n\n" +
                                           test::perplexity_record("b.gguf", "").dump() + "\n{\"x\":1}\n");
  const auto run = test::read(dir);
  EXPECT_EQ(run.qualities.size(), 2u);
  EXPECT_EQ(file_of(run, "all.jsonl")->what, "2 records, 1 lines of something else");
}

TEST(ReadRun, FiguresFromAnotherMachineBelongToTheFileOfThatName) {
  const std::string dir = test::new_run();
  test::add_gguf(dir, "small.gguf", "Q8_0");
  test::add_json(dir, "bench.json", Json::array({test::bench_record("/home/pi/models/small.gguf", 0, 128)}));
  const auto run = test::read(dir);
  ASSERT_EQ(run.rates.size(), 1u);
  EXPECT_EQ(run.variants[run.rates[0].variant].label, "small");
  EXPECT_EQ(run.variants.size(), 2u);
}

TEST(ReadRun, FiguresOfAnotherFileOfTheSameNameAreRefused) {
  const std::string dir = test::new_run();
  test::add_gguf(dir, "small.gguf", "Q8_0");
  Json other = test::bench_record("small.gguf", 0, 128);
  other["model_size"] = 123;
  test::add_json(dir, "bench.json", Json::array({other}));
  const auto run = test::read(dir);
  EXPECT_TRUE(run.rates.empty());
  ASSERT_TRUE(file_of(run, "bench.json")->bad);
  EXPECT_NE(file_of(run, "bench.json")->what.find("another small.gguf"), std::string::npos);
}

TEST(ReadRun, WhenTwoHaveTheNameThePathDecides) {
  const std::string dir = test::new_run();
  fs::create_directories(dir + "/a");
  fs::create_directories(dir + "/b");
  test::add_gguf(dir, "a/m.gguf", "Q8_0");
  test::add_gguf(dir, "b/m.gguf", "F16");
  test::add_json(dir, "ppl.json", test::perplexity_record(dir + "/b/m.gguf", dir + "/a/m.gguf"));
  const auto run = test::read(dir);
  ASSERT_EQ(run.qualities.size(), 1u);
  EXPECT_EQ(run.variants[run.qualities[0].variant].path, "b/m.gguf");
  EXPECT_EQ(run.variants[run.qualities[0].base].path, "a/m.gguf");
}

TEST(ReadRun, WhatMadeACheckpointIsInItsShoehornJson) {
  const std::string dir = test::new_run();
  Json record = test::prune_record("", "");
  record.erase("in");
  record.erase("out");
  test::add_json(dir, "tiny/shoehorn.json", record);
  const auto run = test::read(dir);
  ASSERT_EQ(run.steps.size(), 1u);
  EXPECT_EQ(run.steps[0].command, "prune");
  EXPECT_EQ(run.steps[0].in, kNone);
  EXPECT_EQ(run.variants[run.steps[0].out].label, "tiny");
}

TEST(ReadRun, ARecordSaysMoreThanShoehornJsonAndIsTakenInstead) {
  const std::string dir = test::new_run();
  test::add_json(dir, "tiny/shoehorn.json", test::prune_record("", ""));
  test::add_json(dir, "prune.json", test::prune_record("dense", "tiny"));
  const auto run = test::read(dir);
  ASSERT_EQ(run.steps.size(), 1u);
  EXPECT_EQ(run.variants[run.steps[0].in].label, "dense");
}

TEST(ReadRun, DamagedFilesAreNamedAndTheOthersRead) {
  const std::string dir = test::new_run();
  test::add_gguf(dir, "good.gguf", "Q8_0");
  auto bytes = test::read_bytes(dir + "/good.gguf");
  bytes.resize(bytes.size() / 2);
  test::write_bytes(dir + "/cut.gguf", bytes);
  test::write_text(dir + "/empty.gguf", "");
  test::write_text(dir + "/broken.json", "{\"ppl\": 5,");
  test::write_text(dir + "/deep.json", std::string(100'000, '['));
  test::write_text(dir + "/lines.jsonl", "{}\nnonsense\n");
  test::write_text(dir + "/matrix.dat", "no matrix");
  fs::create_directories(dir + "/hollow");
  test::write_text(dir + "/hollow/config.json", "{}");
  test::add_json(dir, "ppl.json", test::perplexity_record("good.gguf", ""));
  fs::create_symlink("nowhere", dir + "/link.json");
  test::Notes notes;
  const auto run = read_run(dir, "", notes);
  ASSERT_TRUE(run.has_value());
  for (const char* name :
       {"cut.gguf", "empty.gguf", "broken.json", "deep.json", "lines.jsonl", "matrix.dat", "hollow", "link.json"}) {
    ASSERT_NE(file_of(*run, name), nullptr) << name;
    EXPECT_TRUE(file_of(*run, name)->bad) << name;
    EXPECT_TRUE(notes.any_has(name)) << name << " is not remarked";
  }
  EXPECT_EQ(run->n_bad(), 8u);
  EXPECT_NE(file_of(*run, "lines.jsonl")->what.find(":2:"), std::string::npos) << file_of(*run, "lines.jsonl")->what;
  EXPECT_EQ(run->qualities.size(), 1u);
  EXPECT_NE(variant_of(*run, "good"), nullptr);
}

TEST(ReadRun, EveryTruncationOfARecordIsNamedOrRead) {
  const std::string dir = test::temp_dir();
  const std::string text = Json::array({test::bench_record("m.gguf", 512, 128)}).dump();
  for (size_t length = 0; length < text.size(); length += 7) {
    test::write_text(dir + "/bench.json", text.substr(0, length));
    const auto run = test::read(dir);
    ASSERT_EQ(run.n_bad(), 1u) << length;
    EXPECT_TRUE(run.rates.empty());
  }
}

TEST(ReadRun, FiguresThatCannotBeAreRefused) {
  const std::string dir = test::temp_dir();
  const auto with = [](Json json, const char* key, Json value) {
    json[key] = std::move(value);
    return json;
  };
  const Json ppl = test::perplexity_record("m.gguf", ""), prune = test::prune_record("a", "b");
  int n = 0;
  for (const Json& bad :
       {with(ppl, "ppl", "low"), with(ppl, "ppl", -1), with(ppl, "ppl", nullptr), with(prune, "parameters", -5),
        with(test::quantize_record("a", "b.gguf", "Q4_0"), "file_bytes", "much"), with(ppl, "model", 5),
        Json::array({with(test::bench_record("m.gguf", 1, 0), "avg_ts", "fast")})}) {
    test::add_json(dir, "bad" + std::to_string(n++) + ".json", bad);
  }
  const auto run = test::read(dir);
  EXPECT_EQ(run.n_bad(), static_cast<size_t>(n));
  EXPECT_TRUE(run.qualities.empty() && run.rates.empty() && run.steps.empty());
}

TEST(ReadRun, OddValuesBesideTheFiguresAreNotMeasured) {
  const std::string dir = test::temp_dir();
  Json record = test::bench_record("m.gguf", 512, 128);
  record["ttft_ms"] = "soon";
  record["mbu"] = Json::array();
  record["n_prompt"] = -7;
  record["cpu_info"] = 12;
  record["power_over_time"] = {{1, 2}, "x", {3}, {4, "y"}};
  record["profile"] = {{"op", 1}};
  test::add_json(dir, "bench.json", Json::array({record}));
  const auto run = test::read(dir);
  ASSERT_EQ(run.rates.size(), 1u);
  EXPECT_TRUE(std::isnan(run.rates[0].ttft_ms) && std::isnan(run.rates[0].mbu));
  EXPECT_EQ(run.rates[0].n_prompt, 0);
  EXPECT_EQ(run.rates[0].cpu, "");
}

TEST(ReadRun, PowerTemperatureAndFrequencyCountFromTheirFirstSample) {
  const std::string dir = test::temp_dir();
  Json record = test::bench_record("m.gguf", 0, 128);
  record["power_over_time"] = {{1000.5, 4.5}, {1001.0, 6.25}};
  record["samples_unix"] = {1000, 1010, 1020};
  record["samples_temperature_c"] = {51.5, nullptr, 60};
  record["samples_mhz"] = {2400, 2400, 1500};
  record["joules_per_token"] = 0.75;
  test::add_json(dir, "bench.json", Json::array({record}));
  const auto run = test::read(dir);
  ASSERT_EQ(run.rates.size(), 1u);
  const auto& series = run.rates[0].over_time;
  ASSERT_EQ(series.size(), 3u);
  EXPECT_EQ(series[0].points, (std::vector<std::pair<double, double>>{{0, 4.5}, {0.5, 6.25}}));
  EXPECT_EQ(series[1].points, (std::vector<std::pair<double, double>>{{0, 51.5}, {20, 60}}));
  EXPECT_EQ(series[2].points.size(), 3u);
  EXPECT_EQ(run.rates[0].joules_per_token, 0.75);
}

TEST(ReadRun, ReadsTaskScoresWithTheirComparison) {
  const std::string dir = test::temp_dir();
  test::add_json(dir, "arc.json",
                 {{"task", "arc"},
                  {"model", "m.gguf"},
                  {"file", "arc.jsonl"},
                  {"items", 200},
                  {"metrics", {{"acc", {{"value", 0.42}, {"low", 0.35}, {"high", 0.49}}}}},
                  {"compare",
                   {{"model", "base.gguf"},
                    {"metrics", {{"acc", {{"value", -0.03}, {"low", -0.06}, {"high", 0.01}, {"p", 0.2}}}}}}}});
  const auto run = test::read(dir);
  ASSERT_EQ(run.scores.size(), 1u);
  const Score& s = run.scores[0];
  EXPECT_EQ(s.metric, "acc");
  EXPECT_EQ(s.value, 0.42);
  EXPECT_EQ(s.difference, -0.03);
  EXPECT_EQ(run.variants[s.compared].label, "base");
}

TEST(ReadRun, ACheckpointMayBeTheDirectoryItself) {
  const std::string dir = test::new_run();
  Json record = test::prune_record("", "");
  test::add_json(dir, "tiny/shoehorn.json", record);
  const auto run = test::read(dir + "/tiny");
  ASSERT_EQ(run.variants.size(), 1u);
  EXPECT_EQ(run.variants[0].label, "tiny");
  EXPECT_EQ(run.steps.size(), 1u);
  EXPECT_EQ(run.n_bad(), 0u);
  EXPECT_EQ(file_of(run, "tokenizer.json")->what, "of the checkpoint");
}

TEST(ReadRun, PipesAndLinksToFoldersAreLeftAlone) {
  const std::string dir = test::new_run();
  ASSERT_EQ(mkfifo((dir + "/pipe.json").c_str(), 0600), 0);
  fs::create_directory_symlink(dir, dir + "/circle");
  fs::create_directories(dir + "/x.partial");
  test::write_text(dir + "/x.partial/half.json", "{");
  const auto run = test::read(dir);
  EXPECT_EQ(run.n_bad(), 0u);
  for (const char* name : {"circle", "pipe.json", "x.partial"}) ASSERT_NE(file_of(run, name), nullptr) << name;
  EXPECT_EQ(file_of(run, "circle")->what, "a link to a folder: not followed");
  EXPECT_EQ(file_of(run, "pipe.json")->what, "no regular file: not read");
  EXPECT_EQ(file_of(run, "x.partial")->what, "unfinished work: not read");
}

TEST(ReadRun, FoldersAreLookedThrough) {
  const std::string dir = test::temp_dir();
  fs::create_directories(dir + "/records/pi5");
  test::add_json(dir, "records/pi5/ppl.json", test::perplexity_record("m.gguf", ""));
  EXPECT_EQ(test::read(dir).qualities.size(), 1u);
}

TEST(ReadRun, PassesOverItsOwnReport) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/report.html", "<p>old</p>");
  EXPECT_TRUE(test::read(dir).files.empty());
}

TEST(ReadRun, FailsOnWhatIsNoDirectory) {
  NoProgress progress;
  const auto run = read_run("/no/such/run", "", progress);
  ASSERT_FALSE(run.has_value());
  EXPECT_NE(run.error().message.find("/no/such/run"), std::string::npos);
}

TEST(ReadRun, TooLargeARecordIsNotRead) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/large.json", "{\"x\":\"" + std::string(kMaxJsonBytes, 'a') + "\"}");
  const auto run = test::read(dir);
  EXPECT_EQ(run.n_bad(), 1u);
}

TEST(ReadRun, ManyRecordsOfManyModelsEndInARefusal) {
  const std::string dir = test::temp_dir();
  std::string text;
  for (int i = 0; i < 8000; ++i) text += "{\"ppl\":5,\"tokens\":1,\"model\":\"m" + std::to_string(i) + ".gguf\"}\n";
  test::write_text(dir + "/many.jsonl", text);
  const auto run = test::read(dir);
  EXPECT_EQ(run.n_bad(), 1u);
  EXPECT_LE(run.variants.size(), 1001u);
}

}  // namespace
}  // namespace shoehorn::report
