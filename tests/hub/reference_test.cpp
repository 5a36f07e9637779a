#include "hub/reference.h"

#include "support/support.h"

namespace shoehorn::hub {
namespace {

TEST(Reference, Parts) {
  ASSERT_EXPECTED(const Reference all, parse_reference("hf:meta-llama/Llama-3.1-8B@refs/pr/3:Q4_K_M"));
  EXPECT_EQ(all.repository, "meta-llama/Llama-3.1-8B");
  EXPECT_EQ(all.revision, "refs/pr/3");
  EXPECT_EQ(all.file, "Q4_K_M");
  EXPECT_EQ(to_string(all), "hf:meta-llama/Llama-3.1-8B@refs/pr/3:Q4_K_M");
  ASSERT_EXPECTED(const Reference plain, parse_reference("gpt2"));
  EXPECT_EQ(plain.repository, "gpt2");
  EXPECT_EQ(plain.revision, "main");
  EXPECT_EQ(to_string(plain), "hf:gpt2");
}

TEST(Reference, WhatCouldLeaveTheCacheIsRefused) {
  for (const char* bad : {"hf:", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a//b", "hf:a/b@", "hf:a/b@../x",
                          "hf:a/b@x/../../y", "hf:a/b:", "hf:a/b:../c", "hf:a/b:/etc/passwd", "hf:a--x/b", "hf:-a/b",
                          "hf:a/b.", "hf:a b/c", "hf:a/b:x\\y", "hf:a/b@x\ny"}) {
    const auto reference = parse_reference(bad);
    ASSERT_FALSE(reference.has_value()) << bad;
    EXPECT_EQ(reference.error().code, ErrorCode::kInvalid);
    EXPECT_NE(reference.error().message.find(bad), std::string::npos) << reference.error().message;
  }
}

}  // namespace
}  // namespace shoehorn::hub
