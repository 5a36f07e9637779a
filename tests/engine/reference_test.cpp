// Real trained checkpoints against logits computed in double precision by an independent program.
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "convert/gguf_output.h"
#include "engine/generate.h"
#include "support/support.h"

namespace shoehorn::engine {
namespace {

class RealCheckpoint : public testing::TestWithParam<const char*> {};

TEST_P(RealCheckpoint, LogitsAndGreedyContinuationEqualTheReference) {
  const std::string name = GetParam();
  SHOEHORN_SHARED(directory, "models/" + name);
  SHOEHORN_SHARED(reference_path, "data/reference/computed/" + name + ".json");
  ASSERT_EXPECTED(const Json reference, read_json(reference_path));
  const std::string path = test::temp_dir() + "/model.gguf";
  NoProgress progress;
  ASSERT_EXPECTED(const auto source, convert::ModelSource::open(directory, progress));
  ASSERT_TRUE(convert::write_gguf(source, path, {.mix = quant::find_mix("F32")}, progress).has_value());
  ASSERT_EXPECTED(const auto model, Model::open(path));

  for (const Json& prompt : reference["prompts"]) {
    ASSERT_EXPECTED(auto session, Session::create(model, {.key_type = quant::Type::F32, .value_type = quant::Type::F32}));
    const auto ids = prompt["prompt_ids"].get<std::vector<tokenizer::Token>>();
    EXPECT_EQ(model->tokenizer().encode(prompt["prompt"].get<std::string>()), ids) << prompt["prompt"];

    ASSERT_EXPECTED(auto logits, session.eval(ids));
    const auto expected = prompt["logits_after_prompt"].get<std::vector<float>>();
    ASSERT_EQ(logits.size(), expected.size());
    float worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(logits[i] - expected[i]));
    EXPECT_LT(worst, 1e-3) << prompt["prompt"];

    const auto greedy = prompt["greedy_ids"].get<std::vector<tokenizer::Token>>();
    size_t equal = 0;
    for (; equal < greedy.size() && session.n_past() < session.n_ctx(); ++equal) {
      const float gap = top2_gap(logits);
      const tokenizer::Token token = argmax(logits);
      if (gap < 2e-3f && token != greedy[equal]) {
        std::printf("%s, \"%s\": step %zu has a top-2 gap of %g, the comparison ends there\n", name.c_str(),
                    prompt["prompt"].get<std::string>().c_str(), equal, static_cast<double>(gap));
        break;
      }
      ASSERT_EQ(token, greedy[equal]) << "step " << equal << ", top-2 gap " << gap;
      ASSERT_EXPECTED(logits, session.eval({&token, 1}));
    }
    std::printf("%s, \"%s\": largest difference of a logit %.2e, %zu of %zu greedy ids equal\n", name.c_str(),
                prompt["prompt"].get<std::string>().c_str(), static_cast<double>(worst), equal, greedy.size());
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RealCheckpoint, testing::Values("stories260K", "babyllama-tok105"), [](const auto& parameter) {
  std::string name = parameter.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace shoehorn::engine
