#include "cli/prompt_cache.h"

#include "cli/command.h"

namespace shoehorn::cli {

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
