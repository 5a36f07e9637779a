#include "cli/prompt_cache.h"

#include <algorithm>

#include "cli/command.h"

namespace shoehorn::cli {

size_t held_of(const std::vector<tokenizer::Token>& prompt, const std::vector<tokenizer::Token>& held) {
  if (prompt.empty()) return 0;
  return static_cast<size_t>(std::mismatch(held.begin(), held.end(), prompt.begin(), prompt.end() - 1).first -
                             held.begin());
}

std::vector<tokenizer::Token> PromptCache::load(engine::Session& session) {
  if (path_.empty()) return {};
  auto held = engine::load_session(session, path_);
  if (held) {
    loaded_ = *held;
    return std::move(*held);
  }
  if (held.error().code != ErrorCode::kNotFound)
    remark("--prompt-cache: " + held.error().message + "; going on without");
  return {};
}

Status PromptCache::save(const engine::Session& session, const std::vector<tokenizer::Token>& held) {
  if (path_.empty() || read_only_ || held.empty() || held == loaded_) return {};
  return engine::save_session(session, held, path_);
}

}  // namespace shoehorn::cli
