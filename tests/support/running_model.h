// Models written from checkpoints and run, for the tests of rooms that include both sides.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "convert/gguf_output.h"
#include "engine/session.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::test {

/// A checkpoint, or a GGUF, as a GGUF of a named mix in a new directory.
inline std::string to_gguf(const std::string& model, const char* mix = "F32") {
  NoProgress progress;
  auto source = convert::ModelSource::open(model, progress);
  EXPECT_TRUE(source.has_value()) << source.error().message;
  const std::string path = temp_dir() + "/model.gguf";
  const auto written = convert::write_gguf(*source, path, {.mix = quant::find_mix(mix)}, progress);
  EXPECT_TRUE(written.has_value()) << written.error().message;
  return path;
}

/// A tiny random model as Q8_0.
inline std::string tiny_gguf(uint32_t seed = 1, bool tied = false) {
  Json config = tiny_config();
  config["tie_word_embeddings"] = tied;
  return to_gguf(make_tiny_checkpoint(config, seed).directory, "Q8_0");
}

inline std::shared_ptr<const engine::Model> open_model(const std::string& path) {
  auto model = engine::Model::open(path);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return *model;
}

inline engine::Session open_session(const std::string& path, const engine::SessionOptions& options) {
  auto session = engine::Session::create(open_model(path), options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(*session);
}

/// For few tokens, with nothing rounded but the weights.
inline engine::Session exact_session(const std::string& path) {
  return open_session(path, {.n_ctx = 64, .n_threads = 1, .key_type = quant::Type::F32, .value_type = quant::Type::F32});
}

/// n ids of bytes.
inline std::vector<tokenizer::Token> some_tokens(int n = 19) {
  std::vector<tokenizer::Token> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back((i * 37 + 11) % 256);
  return tokens;
}

/// [tokens, n_vocab] of a fresh session.
inline std::vector<float> logits_of(engine::Session session, const std::vector<tokenizer::Token>& tokens = some_tokens()) {
  const auto logits = session.eval(tokens, tokens.size());
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  return {logits->begin(), logits->end()};
}

}  // namespace shoehorn::test
