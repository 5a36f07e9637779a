// A pruned checkpoint in two forms: as config.json and safetensors, and as the object that LLM-Pruner pickles.
#pragma once

#include <filesystem>
#include <string>

#include "io/model_fixture.h"
#include "models/hf_config.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::test {

/// A checkpoint whose layers were pruned each to its own width, as config.json and safetensors.
inline TinyCheckpoint pruned_checkpoint() {
  Json config = tiny_config();
  config["intermediate_size"] = {96, 64, 32};
  config["num_attention_heads"] = {4, 2, 4};
  config["num_key_value_heads"] = {2, 1, 2};
  return make_tiny_checkpoint(config);
}

/// The same weights as LLM-Pruner saves them: a configuration of before, without a word on the head's size.
inline ModelFixture as_object(const TinyCheckpoint& checkpoint) {
  ModelFixture fixture;
  fixture.config = tiny_config();
  fixture.config.erase("head_dim");
  fixture.config.erase("torch_dtype");
  const auto parsed = models::parse_model_config(checkpoint.config);
  for (const auto& spec : models::tensor_specs(*parsed->architecture, parsed->hparams)) {
    if (spec.hf_name.empty()) continue;
    fixture.weights[spec.hf_name] = {{spec.shape.rbegin(), spec.shape.rend()}, checkpoint.weights.at(spec.hf_name)};
  }
  return fixture;
}

/// A directory with the tokenizer of `checkpoint` and this file.
inline std::string write_object(const ModelFile& file, const TinyCheckpoint& checkpoint) {
  const std::string directory = temp_dir();
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) std::filesystem::copy(checkpoint.directory + "/" + name, directory + "/" + name);
  write_text(directory + "/pytorch_model.bin", file.zip());
  return directory;
}
inline std::string write_object(const ModelFixture& fixture, const TinyCheckpoint& checkpoint) {
  return write_object(model_file(fixture), checkpoint);
}

}  // namespace shoehorn::test
