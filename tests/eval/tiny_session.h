// A small model with random weights, in a session.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "convert/gguf_output.h"
#include "engine/session.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::test {

inline std::string tiny_gguf(uint32_t seed = 1, bool tied = false) {
  NoProgress progress;
  Json config = tiny_config();
  config["tie_word_embeddings"] = tied;
  auto source = convert::ModelSource::open(make_tiny_checkpoint(config, seed).directory, progress);
  EXPECT_TRUE(source.has_value()) << source.error().message;
  const std::string path = temp_dir() + "/model.gguf";
  const auto written = convert::write_gguf(*source, path, {.mix = quant::find_mix("Q8_0")}, progress);
  EXPECT_TRUE(written.has_value()) << written.error().message;
  return path;
}

inline engine::Session open_session(const std::string& path, const engine::SessionOptions& options) {
  auto model = engine::Model::open(path);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  auto session = engine::Session::create(*model, options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(*session);
}

}  // namespace shoehorn::test
