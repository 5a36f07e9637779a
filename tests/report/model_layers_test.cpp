#include "report/model_layers.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "report/model_drawing.h"
#include "run_fixture.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"
#include "well_formed.h"

namespace shoehorn::report {
namespace {

ModelLayers layers_of(const std::string& path) {
  NoProgress progress;
  auto source = convert::ModelSource::open(path, progress);
  EXPECT_TRUE(source.has_value()) << source.error().message;
  return model_layers(*source);
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

/// Layer i of n with the given MLP width and type of ffn_down.
Layer layer(uint32_t n_ff, const char* down, uint64_t bytes) {
  return {{8, 2, n_ff},
          {{"attn_q", "Q4_K", 100, 56}, {"attn_v", "Q6_K", 100, 82}, {"ffn_down", down, 100, bytes}},
          300,
          bytes};
}

TEST(ModelLayers, AddUpToTheModel) {
  const std::string dir = test::new_run();
  test::add_gguf(dir, "m.gguf", "Q4_K_M");
  for (const std::string& path : {dir + "/tiny", dir + "/m.gguf"}) {
    const ModelLayers model = layers_of(path);
    ASSERT_EQ(model.layers.size(), 3u);
    uint64_t weights = 256, bytes = 256 * 4;  // output_norm
    for (const Layer& l : model.layers) {
      weights += l.weights;
      bytes += l.bytes;
      EXPECT_EQ(l.shape.n_ff, 512u);
      EXPECT_EQ(l.matrices.size(), 7u);
    }
    for (const Part& part : model.outside) {
      weights += part.weights;
      bytes += part.bytes;
    }
    EXPECT_EQ(weights, model.parameters) << path;
    EXPECT_EQ(bytes, model.bytes) << path;
  }
}

TEST(ModelLayers, OfACheckpointAndItsGgufHaveTheSameNames) {
  const std::string dir = test::new_run();
  test::add_gguf(dir, "m.gguf", "F16");
  EXPECT_EQ(layers_of(dir + "/tiny").matrix_names(), layers_of(dir + "/m.gguf").matrix_names());
}

TEST(EqualRuns, EndWhereShapeTypeOrBytesChange) {
  const std::vector<Layer> all = {layer(512, "Q4_K", 60), layer(512, "Q4_K", 60), layer(512, "Q6_K", 60),
                                  layer(256, "Q6_K", 60), layer(256, "Q6_K", 70)};
  std::vector<std::pair<size_t, size_t>> runs;
  for (const LayerRun& run : equal_runs(all)) runs.emplace_back(run.first, run.last);
  EXPECT_EQ(runs, (std::vector<std::pair<size_t, size_t>>{{0, 1}, {2, 2}, {3, 3}, {4, 4}}));
}

TEST(DrawAsText, HasARowPerRunAndSharesColumnsOfEqualTypes) {
  ModelLayers model;
  model.layers = {layer(512, "Q4_K", 1024), layer(512, "Q4_K", 1024), layer(256, "Q6_K", 2048)};
  model.outside = {{"token_embd", "Q4_K", 1, 4096}};
  const auto text = lines(draw_as_text(model));
  ASSERT_EQ(text.size(), 4u);
  EXPECT_EQ(text[0], "layers  heads  MLP                    q     v     down        bytes");
  EXPECT_EQ(text[1], "0-1       8/2  512  ████████████████  Q4_K  Q6_K  Q4_K  2 x 1.0 KiB  █████");
  EXPECT_EQ(text[2], "2         8/2  256  ████████          Q4_K  Q6_K  Q6_K      2.0 KiB  ██████████");
  EXPECT_EQ(text[3], "token_embd: Q4_K, 4.0 KiB");
}

TEST(DrawAsText, SaysWhatALayerLacks) {
  ModelLayers model;
  model.layers = {layer(512, "Q4_K", 1024), {{0, 0, 512}, {{"ffn_down", "Q4_K", 1, 1}}, 1, 1}};
  EXPECT_EQ(lines(draw_as_text(model))[2].substr(0, 14), "1           - ");
}

TEST(LayersJson, HasOneEntryPerLayer) {
  ModelLayers model;
  model.layers = {layer(512, "Q4_K", 1024), layer(256, "Q6_K", 2048)};
  const Json json = layers_json(model);
  ASSERT_EQ(json.size(), 2u);
  EXPECT_EQ(json[1], (Json{{"n_head", 8},
                           {"n_head_kv", 2},
                           {"n_ff", 256},
                           {"parameters", 300},
                           {"bytes", 2048},
                           {"types", {{"attn_q", "Q4_K"}, {"attn_v", "Q6_K"}, {"ffn_down", "Q6_K"}}}}));
}

TEST(DrawWidths, OutlinesWhatThePrunedModelHadBefore) {
  ModelLayers dense, pruned;
  dense.layers = {layer(512, "F16", 1024), layer(512, "F16", 1024)};
  pruned.layers = {layer(512, "Q4_K", 1024), layer(256, "Q4_K", 1024)};
  const std::string svg = draw_widths("p", pruned, &dense).str();
  EXPECT_EQ(test::what_is_malformed(svg), "");
  const auto classes = test::attribute_values(svg, "class");
  EXPECT_EQ(std::ranges::count(classes, "ghost"), 1);
  EXPECT_NE(svg.find("layer 1: 256 neurons, was 512"), std::string::npos);
  EXPECT_EQ(std::ranges::count(test::attribute_values(draw_widths("p", pruned).str(), "class"), "ghost"), 0);
}

TEST(TypeMap, NamesTheTypeAndItsBits) {
  ModelLayers model;
  model.layers = {layer(512, "Q6_K", 82)};
  const HeatMap map = type_map("m", model);
  ASSERT_EQ(map.columns, (std::vector<std::string>{"q", "v", "down"}));
  EXPECT_EQ(map.cells[0][2].text, "Q6_K");
  EXPECT_DOUBLE_EQ(map.cells[0][2].value, 6.56);
}

TEST(Drawings, OfVeryManyLayersStaySmall) {
  ModelLayers model;
  for (uint32_t i = 0; i < 5000; ++i) model.layers.push_back(layer(256 + 256 * (i % 2), "Q4_K", 1000 + i));
  EXPECT_LT(draw_widths("m", model).str().size() + draw(type_map("m", model)).str().size(), size_t{2} << 20);
}

}  // namespace
}  // namespace shoehorn::report
