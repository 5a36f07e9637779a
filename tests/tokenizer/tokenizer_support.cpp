#include "tokenizer_support.h"

#include <filesystem>

#include "io/gguf.h"

namespace shoehorn::tokenizer::test {
namespace {

constexpr char kRoot[] = "data/tokenizers/";

Expected<Vocab> from_gguf(const std::string& name) {
  auto file = io::GgufFile::open(shared_path(kRoot + ("ggml-vocab/ggml-vocab-" + name + ".gguf")));
  if (!file) return tl::unexpected(file.error());
  return vocab_from_gguf(file->metadata());
}

Expected<Vocab> from_files(const std::vector<std::pair<std::string, std::string>>& files, uint64_t n_vocab) {
  return vocab_from_directory(directory_with(files), n_vocab);
}

}  // namespace

std::string directory_with(const std::vector<std::pair<std::string, std::string>>& files) {
  const std::string directory = temp_dir();
  for (const auto& [name, source] : files) {
    std::filesystem::create_symlink(shared_path(kRoot + source), directory + "/" + name);
  }
  return directory;
}

const std::vector<Source>& sources() {
  static const std::vector<Source> all = {
      {"llama-spm", [] { return from_gguf("llama-spm"); }},
      {"phi-3", [] { return from_gguf("phi-3"); }},
      {"gpt-2", [] { return from_gguf("gpt-2"); }},
      {"deepseek-coder", [] { return from_gguf("deepseek-coder"); }},
      {"mpt", [] { return from_gguf("mpt"); }},
      {"gpt-neox", [] { return from_gguf("gpt-neox"); }},
      {"llama2",
       [] {
         return from_files({{"tokenizer.model", "llama2/tokenizer.model"}}, 32000);
       }},
      {"llama3",
       [] {
         return from_files({{"tokenizer.model", "llama3/tokenizer.model"}}, 128256);
       }},
      {"llama4",
       [] {
         return from_files({{"tokenizer.model", "llama4/tokenizer.model"}}, 202048);
       }},
      {"mistral",
       [] {
         return from_files({{"tokenizer.model", "mistral/tokenizer.model.v1"}}, 32000);
       }},
      {"qwen2",
       [] {
         return from_files({{"vocab.json", "qwen2/vocab.json"},
                            {"merges.txt", "qwen2/merges.txt"},
                            {"tokenizer_config.json", "qwen2/tokenizer_config.json"},
                            {"special_tokens_map.json", "qwen2/special_tokens_map.json"},
                            {"generation_config.json", "qwen2/generation_config.json"},
                            {"added_tokens.json", "qwen2/added_tokens.json"},
                            {"config.json", "qwen2/config.json"}},
                           151936);
       }},
      {"smollm2",
       [] {
         return from_files({{"tokenizer.json", "smollm2-135m-instruct/tokenizer.json"},
                            {"config.json", "smollm2-135m-instruct/config.json"}},
                           49152);
       }},
      {"tinyllama",
       [] {
         return from_files({{"tokenizer.json", "tinyllama-1.1b-chat-hf/tokenizer.json"},
                            {"tokenizer_config.json", "tinyllama-1.1b-chat-hf/tokenizer_config.json"},
                            {"special_tokens_map.json", "tinyllama-1.1b-chat-hf/special_tokens_map.json"}},
                           32000);
       }},
      {"neox-hf",
       [] {
         return from_files({{"tokenizer.json", "gpt-neox/20B_tokenizer.json"}}, 50432);
       }},
      {"gpt2-files",
       [] {
         return from_files({{"vocab.json", "gpt2/vocab.json"}, {"merges.txt", "gpt2/merges.txt"}}, 50257);
       }},
  };
  return all;
}

Expected<Vocab> load(const std::string& source) {
  for (const Source& row : sources()) {
    if (row.name == source) return row.load();
  }
  return fail(ErrorCode::kNotFound, "no source {}", source);
}

std::string small_tokenizer_json() {
  return R"({"added_tokens": [{"id": 6, "content": "<s>", "special": true}, {"id": 7, "content": "</s>", "special": true}],
    "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "Ġ": 5}, "merges": ["a b", "ab c"]}})";
}

}  // namespace shoehorn::tokenizer::test
