#include "eval/load_time.h"

#include <gtest/gtest.h>

#include "support/running_model.h"

namespace shoehorn::eval {
namespace {

TEST(LoadTime, OpensTheModelAndComputesAToken) {
  const std::string path = test::tiny_gguf();
  ASSERT_EXPECTED(const auto loaded, load_timed(path, {.n_ctx = 16, .n_threads = 1}, false));
  EXPECT_GT(loaded.time.open_ms, 0);
  EXPECT_GT(loaded.time.first_token_ms, loaded.time.open_ms);
  EXPECT_EQ(loaded.model->file().path(), path);
  EXPECT_FALSE(loaded.time.dropped);
  EXPECT_STREQ(loaded.time.state(), "warm") << "the file was written a moment ago";
}

TEST(LoadTime, IsCalledColdOnlyWhenTheFileHasLeftThePageCache) {
  const std::string path = test::tiny_gguf();
  ASSERT_EXPECTED(const auto loaded, load_timed(path, {.n_ctx = 16, .n_threads = 1}, true));
  EXPECT_TRUE(loaded.time.dropped);
  // File systems in memory keep their pages: then it says so.
  EXPECT_STREQ(loaded.time.state(), loaded.time.cached <= 0.05 ? "cold" : "warm");
  // Pages that somebody has mapped and touched stay.
  const auto second = load_timed(path, {.n_ctx = 16, .n_threads = 1}, true);
  ASSERT_TRUE(second.has_value());
  EXPECT_GT(second->time.cached, 0.5) << "a file in use was called cold";
}

TEST(LoadTime, NamesTheStates) {
  EXPECT_STREQ((LoadTime{.cached = 0.03}).state(), "cold");
  EXPECT_STREQ((LoadTime{.cached = 0.5}).state(), "partly cached");
  EXPECT_STREQ((LoadTime{.cached = 0.97}).state(), "warm");
}

TEST(LoadTime, FailsWithTheFile) {
  const auto loaded = load_timed("/no/such/model.gguf", {}, true);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_NE(loaded.error().message.find("/no/such/model.gguf"), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::eval
