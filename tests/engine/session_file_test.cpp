#include "engine/session_file.h"

#include "support/running_model.h"
#include "support/support.h"

namespace shoehorn::engine {
namespace {

using test::open_session;
using tokenizer::Token;

const std::vector<Token> kTokens = {1, 5, 9, 200, 31, 7, 64, 3};

/// Logits after one more token.
std::vector<float> next(Session& session) {
  const Token token = 11;
  const auto logits = session.eval({&token, 1});
  EXPECT_TRUE(logits.has_value());
  return {logits->begin(), logits->end()};
}

struct Kept {
  std::string model = test::tiny_gguf(), file = test::temp_dir() + "/a.kv";
  SessionOptions options = {.n_ctx = 32, .n_batch = 8, .n_threads = 1};
};

TEST(SessionFile, GoesOnBitByBit) {
  for (const quant::Type type : {quant::Type::F32, quant::Type::F16, quant::Type::BF16}) {
    Kept kept;
    kept.options.key_type = kept.options.value_type = type;
    Session session = open_session(kept.model, kept.options);
    ASSERT_TRUE(session.eval(kTokens).has_value());
    ASSERT_TRUE(save_session(session, kTokens, kept.file));
    const std::vector<float> expected = next(session);
    // The context may be another one.
    kept.options.n_ctx = 48;
    Session other = open_session(kept.model, kept.options);
    ASSERT_EXPECTED(const std::vector<Token> held, load_session(other, kept.file));
    EXPECT_EQ(held, kTokens);
    EXPECT_EQ(other.n_past(), kTokens.size());
    EXPECT_EQ(next(other), expected);
  }
}

TEST(SessionFile, AShorterContextTakesTheBeginning) {
  Kept kept;
  Session session = open_session(kept.model, kept.options);
  ASSERT_TRUE(session.eval(kTokens).has_value());
  ASSERT_TRUE(save_session(session, kTokens, kept.file));
  session.truncate(5);
  const std::vector<float> expected = next(session);
  kept.options.n_ctx = 6;
  Session other = open_session(kept.model, kept.options);
  ASSERT_EXPECTED(const std::vector<Token> held, load_session(other, kept.file));
  EXPECT_EQ(held.size(), 6u);
  other.truncate(5);
  EXPECT_EQ(next(other), expected);
}

TEST(SessionFile, WhatDoesNotFitIsRefused) {
  Kept kept;
  Session session = open_session(kept.model, kept.options);
  const auto missing = load_session(session, kept.file);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(session.eval(kTokens).has_value());
  EXPECT_FALSE(save_session(session, std::span(kTokens).first(3), kept.file)) << "tokens and positions differ";
  ASSERT_TRUE(save_session(session, kTokens, kept.file));
  const auto message = [&](Session& into) {
    const auto loaded = load_session(into, kept.file);
    EXPECT_EQ(into.n_past(), loaded ? kTokens.size() : 0u);
    return loaded ? "" : loaded.error().message;
  };
  Session another = open_session(test::tiny_gguf(2), kept.options);
  EXPECT_NE(message(another).find("another model"), std::string::npos);
  kept.options.key_type = quant::Type::F32;
  Session typed = open_session(kept.model, kept.options);
  EXPECT_NE(message(typed).find("kept otherwise"), std::string::npos);
  kept.options.key_type = session.cache().types().keys;
  kept.options.cache_rotation = CacheRotation::kAlways;
  Session rotated = open_session(kept.model, kept.options);
  EXPECT_NE(message(rotated).find("kept otherwise"), std::string::npos);
  // Every byte counts, and so does the number of them.
  const auto bytes = test::read_bytes(kept.file);
  for (size_t at = 0; at < bytes.size(); at += 97) {
    auto damaged = bytes;
    damaged[at] ^= std::byte{0x10};
    test::write_bytes(kept.file, damaged);
    ASSERT_NE(message(session), "") << "byte " << at;
  }
  for (const size_t size : {size_t{0}, size_t{7}, size_t{40}, bytes.size() - 1, bytes.size() / 2}) {
    test::write_bytes(kept.file, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
    ASSERT_NE(message(session), "") << size << " bytes";
  }
  test::write_bytes(kept.file, bytes);
  EXPECT_EQ(message(session), "");
}

}  // namespace
}  // namespace shoehorn::engine
