// A tiny random checkpoint as the engine reads it.
#pragma once

#include "convert/gguf_output.h"
#include "engine/session.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::test {

/// Path of the checkpoint as a GGUF of a named type.
inline std::string gguf_of(const TinyCheckpoint& checkpoint, const char* type = "F32") {
  NoProgress progress;
  auto source = convert::ModelSource::open(checkpoint.directory, progress);
  EXPECT_TRUE(source.has_value()) << source.error().message;
  const std::string path = temp_dir() + "/model.gguf";
  const auto written = convert::write_gguf(*source, path, {.mix = quant::find_mix(type)}, progress);
  EXPECT_TRUE(written.has_value()) << written.error().message;
  return path;
}

inline std::shared_ptr<const engine::Model> open_model(const std::string& path) {
  auto model = engine::Model::open(path);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  return *model;
}

}  // namespace shoehorn::test
