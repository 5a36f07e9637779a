#include "report/page.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <regex>

#include "report/axis.h"
#include "run_fixture.h"
#include "support/support.h"
#include "well_formed.h"

namespace shoehorn::report {
namespace {

using Row = std::vector<std::string>;
using test::table_row;

/// Pruned, healed and quantized elsewhere, measured, with two of the GGUFs here.
const std::string& whole_run() {
  static const std::string dir = [] {
    std::string made = test::new_run();
    test::add_gguf(made, "small.gguf", "Q4_K_M");
    test::add_gguf(made, "tiny-F16.gguf", "F16");
    test::add_json(made, "ppl.json", test::perplexity_record("small.gguf", "tiny-F16.gguf"));
    Json base = test::perplexity_record("tiny-F16.gguf", "");
    for (const char* key : {"kl_base", "base_ppl", "kld_mean", "kld_err", "kld_p99", "kld_max", "top1"})
      base.erase(key);
    test::add_json(made, "ppl-base.json", base);
    test::add_json(made, "bench.json",
                   Json::array({test::bench_record("small.gguf", 512, 0), test::bench_record("small.gguf", 0, 128),
                                test::bench_record("small.gguf", 512, 128)}));
    test::add_json(made, "prune.json", test::prune_record("dense", "pruned"));
    test::add_json(made, "heal.json", test::heal_record("pruned", "tiny"));
    test::add_json(made, "quantize.json", test::quantize_record("tiny", "small.gguf", "Q4_K_M"));
    test::write_text(made + "/recipe.toml", "[prune]\nratio = 0.25 # <a quarter> & no more\n");
    return made;
  }();
  return dir;
}

TEST(Page, IsWellFormed) {
  EXPECT_EQ(test::what_is_malformed(page(test::read(whole_run()))), "");
  EXPECT_EQ(test::what_is_malformed(page(test::read(test::temp_dir()))), "") << "an empty directory";
}

TEST(Page, RefersToNothingOutsideOfIt) {
  const std::string html = page(test::read(whole_run()));
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("<link"), std::string::npos);
  EXPECT_EQ(html.find("<img"), std::string::npos);
  EXPECT_EQ(html.find("@import"), std::string::npos);
  EXPECT_EQ(html.find("url("), std::string::npos);
  EXPECT_EQ(html.find("://"), std::string::npos);
  EXPECT_TRUE(test::attribute_values(html, "src").empty());
  for (const std::string& href : test::attribute_values(html, "href")) {
    EXPECT_TRUE(href.starts_with("#")) << href;
    EXPECT_NE(html.find(" id=\"" + href.substr(1) + "\""), std::string::npos) << href << " leads nowhere";
  }
}

TEST(Page, IdsAreUnique) {
  auto ids = test::attribute_values(page(test::read(whole_run())), "id");
  std::ranges::sort(ids);
  EXPECT_EQ(std::ranges::adjacent_find(ids), ids.end());
}

TEST(Page, IsMadeForPhonesAndDarkRooms) {
  const std::string html = page(test::read(whole_run()));
  EXPECT_NE(html.find("name=\"viewport\""), std::string::npos);
  EXPECT_NE(html.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_NE(html.find("lang=\"en\""), std::string::npos);
}

TEST(Page, IsTheSameEveryTime) { EXPECT_EQ(page(test::read(whole_run())), page(test::read(whole_run()))); }

TEST(Tables, HaveTheFiguresOfTheRecords) {
  const std::string html = page(test::read(whole_run()));
  EXPECT_EQ(table_row(html, "Table 2", "small"),
            (Row{"small", "512 + 128", "6.34", "12.6", "20.35", "5.00 GiB", "not measured", "not measured"}));
  EXPECT_EQ(table_row(html, "Table 4", "small"),
            (Row{"small", "53.039 ± 1.4", "0.006396 ± 6.6e-05", "0.03329", "93.06 %", "tiny-F16", "10,200"}));
  EXPECT_EQ(table_row(html, "Table 4", "tiny-F16"),
            (Row{"tiny-F16", "53.039 ± 1.4", "–", "–", "–", "is the base", "10,200"}));
  EXPECT_EQ(table_row(html, "Table 5", "pruned"), (Row{"pruned", "8,030,261,248", "6,973,296,640", "13.16 %",
                                                       "MLP of 24 layers to 10752 (taylor)", "0.61 ± 0.012"}));
  EXPECT_EQ(table_row(html, "Table 6", "small"),
            (Row{"small", "pp512", "20.35 ± 0.21", "6.34", "–", "53.30 %", "5.22 GB/s"}));
}

TEST(Tables, ABaseWithoutARecordOfItsOwnWasMeasuredBesideTheOthers) {
  const std::string dir = test::temp_dir();
  test::add_json(dir, "ppl.json", test::perplexity_record("small.gguf", "base.gguf"));
  EXPECT_EQ(table_row(page(test::read(dir)), "Table 4", "base"),
            (Row{"base", "52.861", "–", "–", "–", "is the base", "10,200"}));
}

TEST(Tables, SizesAreTheFiles) {
  const std::string html = page(test::read(whole_run()));
  const Row row = table_row(html, "Table 3", "small");
  ASSERT_EQ(row.size(), 6u);
  EXPECT_EQ(row[1], "Q4_K_M");
  const auto bytes = std::filesystem::file_size(whole_run() + "/small.gguf");
  EXPECT_NE(html.find(format_count(bytes) + " bytes"), std::string::npos);
}

TEST(Tables, TypesAreCountedWhereLayersDiffer) {
  const std::string html = page(test::read(whole_run()));
  const Row row = table_row(html, "Table 1", "ffn_down");
  ASSERT_EQ(row.size(), 4u) << "tiny, tiny-F16, small";
  EXPECT_EQ(row[2], "F16");
  EXPECT_TRUE(std::regex_search(row[3], std::regex("Q[46]_K"))) << row[3];
}

TEST(Tables, HaveWhatQuantizeFoundAboutItsOutput) {
  const std::string dir = test::new_run();
  const auto check = [](uint32_t tokens) {
    return convert::Remarks{{"shoehorn.check.text", std::string("bundled")},
                            {"shoehorn.check.tokens", tokens},
                            {"shoehorn.check.ppl", 55.5F},
                            {"shoehorn.check.source_ppl", 50.25F},
                            {"shoehorn.check.kld_mean", 0.125F},
                            {"shoehorn.check.kld_err", 0.25F},
                            {"shoehorn.check.top1", 0.75F},
                            {"shoehorn.check.prompt", std::string("The quick brown fox")},
                            {"shoehorn.check.sentence", std::string(" <b>jumps</b>")}};
  };
  test::add_gguf(dir, "checked.gguf", "Q8_0", check(2048));
  test::add_gguf(dir, "unmeasured.gguf", "Q4_0", check(0));
  const std::string html = page(test::read(dir));
  EXPECT_EQ(test::what_is_malformed(html), "");
  EXPECT_EQ(
      table_row(html, "Checks of the output", "checked"),
      (Row{"checked", "0.125 ± 0.25", "75.00 %", "55.5", "50.25", "2,048 tokens", "The quick brown fox <b>jumps</b>"}));
  EXPECT_TRUE(table_row(html, "Checks of the output", "unmeasured").empty());
}

TEST(Tables, WhatWasNotMeasuredSaysHowToMeasureIt) {
  const std::string html = page(test::read(whole_run()));
  EXPECT_EQ(table_row(html, "Table 2", "tiny-F16")[2], "not measured");
  EXPECT_NE(test::plain_text(html).find("run shoehorn bench -m tiny-F16.gguf -pg 512,128 -o json"), std::string::npos);
  EXPECT_EQ(table_row(html, "Table 3", "dense")[2], "not measured");
}

TEST(Page, ShowsLineageHealingAndRecipe) {
  const std::string html = page(test::read(whole_run()));
  const std::string text = test::plain_text(html);
  for (const char* label : {"dense", "pruned", "tiny", "small"})
    EXPECT_NE(html.find("<b>" + std::string(label) + "</b>"), std::string::npos) << label;
  EXPECT_LT(html.find("<b>dense</b>"), html.find("<b>pruned</b>"));
  EXPECT_LT(html.find("<b>pruned</b>"), html.find("<b>tiny</b>"));
  EXPECT_NE(text.find("Healing of tiny"), std::string::npos);
  EXPECT_NE(text.find("ratio = 0.25 # <a quarter> & no more"), std::string::npos);
  EXPECT_NE(text.find("Cortex-A76"), std::string::npos);
}

TEST(Page, SurvivesRecordsThatMakeACircle) {
  const std::string dir = test::temp_dir();
  test::add_json(dir, "1.json", test::prune_record("a", "b"));
  test::add_json(dir, "2.json", test::prune_record("b", "a"));
  test::add_json(dir, "3.json", test::prune_record("c", "c"));
  const std::string html = page(test::read(dir));
  EXPECT_EQ(test::what_is_malformed(html), "");
  for (const char* label : {"<b>a</b>", "<b>b</b>", "<b>c</b>"})
    EXPECT_NE(html.find(label), std::string::npos) << label;
}

TEST(Page, HostileTextIsShownAsText) {
  const std::string dir = test::temp_dir();
  const std::string evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";
  Json bench = test::bench_record(evil + ".gguf", 512, 128), ppl = test::perplexity_record(evil + ".gguf", evil),
       prune = test::prune_record(evil, evil + "2");
  for (const char* key : {"cpu_info", "isa", "build_commit", "test_time", "power_source", "power_trouble", "taints"})
    bench[key] = evil;
  ppl["file"] = evil;
  prune["method"] = evil;
  bench["profile"] = {{{"op", evil}, {"share", 0.5}}};
  Json quantize = test::quantize_record(evil, evil + ".gguf", evil);
  quantize["sensitivity"] = {{"kld_mean", 0.1}, {"costs", {{"blk.0." + evil, 0.2}, {evil, 0.3}}}};
  test::add_json(dir, "bench.json", Json::array({bench}));
  test::add_json(dir, "ppl.json", ppl);
  test::add_json(dir, "prune.json", prune);
  test::add_json(dir, "quantize.json", quantize);
  test::add_json(dir, "eval.json",
                 {{"task", evil}, {"model", evil}, {"file", evil}, {"metrics", {{evil, {{"value", 1}}}}}});
  test::write_text(dir + "/<script>alert(1)<&.json", "{");
  test::write_text(dir + "/recipe.toml", evil + std::string("\xff\x00\x1b", 3));
  const std::string html = page(test::read(dir));
  EXPECT_EQ(test::what_is_malformed(html), "");
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("<img"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;alert(1)"), std::string::npos);
}

TEST(Page, NumbersBeyondAllMeasureDoNoHarm) {
  const std::string dir = test::temp_dir();
  for (const double value : {1e300, -1e300, 1e-300, 1e19, -5.0}) {
    Json bench = test::bench_record("m.gguf", 512, 128), ppl = test::perplexity_record("m.gguf", "b.gguf"),
         prune = test::prune_record("a", "b"), heal = test::heal_record("b", "c"),
         quantize = test::quantize_record("c", "m.gguf", "Q4_0");
    for (Json* json : {&bench, &ppl, &heal, &quantize}) {
      for (auto& [key, field] : json->items()) {
        if (field.is_number() && key != "ppl" && key != "steps" && key != "avg_ts" && key != "file_bytes")
          field = value;
      }
    }
    heal["losses"] = {value, 1, value};
    prune["check"]["kld_mean"] = value;
    bench["power_over_time"] = {{0, value}, {value, 1}};
    const std::string name = std::to_string(value).substr(0, 8);
    test::add_json(dir, "a" + name + ".json", Json::array({bench}));
    test::add_json(dir, "b" + name + ".json", ppl);
    test::add_json(dir, "c" + name + ".json", prune);
    test::add_json(dir, "d" + name + ".json", heal);
    test::add_json(dir, "e" + name + ".json", quantize);
  }
  const std::string html = page(test::read(dir));
  EXPECT_EQ(test::what_is_malformed(html), "");
  EXPECT_EQ(html.find("=\"nan"), std::string::npos);
  EXPECT_LT(html.size(), size_t{1} << 20);
}

TEST(Page, OfThousandsOfRecordsIsMadeInSeconds) {
  const std::string dir = test::temp_dir();
  std::string text;
  for (int i = 0; i < 4900; ++i) {
    Json record = i % 2 == 0 ? test::perplexity_record("m" + std::to_string(i % 900) + ".gguf", "")
                             : test::prune_record("m" + std::to_string(i % 900), "n" + std::to_string(i));
    if (i % 2 == 0) record["file"] = "text" + std::to_string(i);
    text += record.dump() + "\n";
  }
  test::write_text(dir + "/many.jsonl", text);
  const auto start = std::chrono::steady_clock::now();
  const std::string html = page(test::read(dir));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_LT(html.size(), size_t{16} << 20);
}

TEST(Summary, HasTheFiguresAndNullsForTheOthers) {
  const Json json = summary(test::read(whole_run()));
  const auto& models = json["models"];
  const auto small = std::ranges::find_if(models, [](const Json& m) { return m["name"] == "small"; });
  ASSERT_NE(small, models.end());
  EXPECT_EQ((*small)["from"], "tiny");
  EXPECT_EQ((*small)["made_by"], "quantize");
  EXPECT_EQ((*small)["perplexity"][0]["ppl"], 53.0391);
  EXPECT_EQ((*small)["perplexity"][0]["kld_mean"], 0.0063964);
  EXPECT_EQ((*small)["bench"].size(), 3u);
  EXPECT_EQ((*small)["bench"][0]["avg_ts"], 20.347);
  EXPECT_TRUE((*small)["bench"][0]["joules_per_token"].is_null());
  EXPECT_TRUE(json["problems"].empty());
}

}  // namespace
}  // namespace shoehorn::report
