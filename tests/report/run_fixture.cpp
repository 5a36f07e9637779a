#include "run_fixture.h"

#include <filesystem>

#include "convert/gguf_output.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::test {

std::string new_run() {
  const std::string dir = temp_dir();
  Json config = tiny_config();
  config["hidden_size"] = 256;
  config["head_dim"] = 64;
  config["intermediate_size"] = 512;
  std::filesystem::rename(make_tiny_checkpoint(config).directory, dir + "/tiny");
  return dir;
}

void add_gguf(const std::string& dir, const std::string& name, const char* type, const convert::Remarks& remarks) {
  NoProgress progress;
  auto source = convert::ModelSource::open(dir + "/tiny", progress);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto written =
      convert::write_gguf(*source, dir + "/" + name, {.mix = quant::find_mix(type), .remarks = remarks}, progress);
  ASSERT_TRUE(written.has_value()) << written.error().message;
}

void add_json(const std::string& dir, const std::string& name, const Json& json) {
  write_text(dir + "/" + name, json.dump() + "\n");
}

Json perplexity_record(const std::string& model, const std::string& base) {
  return {{"model", model},      {"file", "texts/eval.txt"}, {"n_ctx", 512},
          {"ppl", 53.0391},      {"ppl_err", 1.4025},        {"tokens", 10200},
          {"chunks", 40},        {"seconds", 12.5},          {"tokens_per_second", 950.0},
          {"kl_base", base},     {"base_ppl", 52.861},       {"kld_mean", 0.0063964},
          {"kld_err", 0.000066}, {"kld_p99", 0.033287},      {"kld_max", 0.41},
          {"top1", 0.9306}};
}

Json bench_record(const std::string& model, int n_prompt, int n_gen) {
  return {{"build_commit", "0.1.0"},
          {"cpu_info", "Cortex-A76"},
          {"isa", "dotprod"},
          {"model_filename", model},
          {"n_batch", 2048},
          {"n_threads", 4},
          {"n_prompt", n_prompt},
          {"n_gen", n_gen},
          {"n_depth", 0},
          {"avg_ts", 20.347},
          {"stddev_ts", 0.21},
          {"ttft_ms", 6340.0},
          {"ttlt_ms", 12630.0},
          {"peak_rss", 5368709120},
          {"mbu", 0.533},
          {"read_gbs", 9.8},
          {"int8_gmacs", 120},
          {"joules", nullptr},
          {"test_time", "2026-01-02T03:04:05Z"}};
}

Json prune_record(const std::string& in, const std::string& out) {
  Json layers = Json::array();
  for (int i = 4; i <= 27; ++i) {
    layers.push_back(
        {{"layer", i}, {"dropped", false}, {"n_ff", {14336, 10752}}, {"n_head", {32, 32}}, {"n_head_kv", {8, 8}}});
  }
  return {
      {"in", in},
      {"out", out},
      {"method", "taylor"},
      {"parameters_before", 8030261248},
      {"parameters", 6973296640},
      {"layers", layers},
      {"seconds", 81},
      {"check", {{"tokens", 4096}, {"kld_mean", 0.61}, {"kld_err", 0.012}, {"nll_before", 1.7}, {"nll_after", 2.4}}}};
}

Json rotate_record(const std::string& in, const std::string& out) {
  return {{"in", in},
          {"out", out},
          {"rotated", {{"r1", "12 x 64"}, {"r2", "64"}, {"r4", nullptr}}},
          {"untied", true},
          {"untied_parameters", 262668288},
          {"learned",
           {{"steps", 3},
            {"best_step", 3},
            {"losses", {0.07, 0.06, 0.05}},
            {"held_out_before", 0.066},
            {"held_out_after", 0.054},
            {"orthogonality_defect", 1e-15}}},
          {"check", {{"tokens", 1020}, {"kld_mean", 0.00002}, {"kld_err", 0.000001}}},
          {"seconds", 44}};
}

Json heal_record(const std::string& in, const std::string& out) {
  Json losses = Json::array();
  for (int i = 0; i < 100; ++i) losses.push_back(2.5 - 0.005 * i);
  return {{"in", in},
          {"out", out},
          {"trainable_parameters", 72300000},
          {"steps", 100},
          {"steps_planned", 100},
          {"examples", 6400},
          {"tokens", 1638400},
          {"best_step", 100},
          {"losses", losses},
          {"validation_before", 2.6},
          {"validation_after", 2.1}};
}

Json quantize_record(const std::string& in, const std::string& out, const std::string& type) {
  return {{"in", in},
          {"out", out},
          {"type", type},
          {"imatrix", nullptr},
          {"parameters", 9703680},
          {"tensor_bytes", 6000000},
          {"file_bytes", 6100000},
          {"bits_per_weight", 4.972},
          {"seconds", 0.28},
          {"peak_rss", 12947456},
          {"tensors", Json::array()}};
}

report::Run read(const std::string& dir) {
  NoProgress progress;
  auto run = report::read_run(dir, dir + "/report.html", progress);
  EXPECT_TRUE(run.has_value()) << run.error().message;
  return run ? std::move(*run) : report::Run();
}

}  // namespace shoehorn::test
