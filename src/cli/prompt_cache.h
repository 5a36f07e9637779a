// What was computed of a prompt, kept from run to run.
#pragma once

#include <string>
#include <vector>

#include "engine/session_file.h"

namespace shoehorn::cli {

/// How many tokens of a prompt, from its beginning, a session holds that holds `held`; never the last one, which has to be
/// computed for what comes next.
size_t held_of(const std::vector<tokenizer::Token>& prompt, const std::vector<tokenizer::Token>& held);

/// llama.cpp's --prompt-cache: a file, or nothing.
class PromptCache {
 public:
  /// `path` "" makes a cache that does nothing.
  PromptCache(std::string path, bool read_only) : path_(std::move(path)), read_only_(read_only) {}

  /// Fills the session; the tokens that it holds then. What cannot be used is said, and is as good as no file.
  std::vector<tokenizer::Token> load(engine::Session& session);
  /// Writes what the session holds, unless it is what was loaded.
  Status save(const engine::Session& session, const std::vector<tokenizer::Token>& held);

 private:
  const std::string path_;
  const bool read_only_;
  std::vector<tokenizer::Token> loaded_;
};

}  // namespace shoehorn::cli
