// An interactive conversation on the terminal.
#pragma once

#include <string>

#include "base/status.h"
#include "engine/generate.h"

namespace shoehorn::cli {

struct ChatOptions {
  std::string system;             ///< empty: none
  std::string template_override;  ///< Jinja source; empty: the model's own
  std::string first_message;      ///< answered before the user is asked
  std::string prompt_cache;       ///< file that keeps what was computed, from chat to chat; empty: none
  bool prompt_cache_ro = false;   ///< it is read, not written
  int64_t n_predict = -1;
  engine::SamplerOptions sampler;
};

/// Reads messages from stdin until end of input, streams answers to stdout. Ctrl-C ends an answer; at the prompt it ends
/// the chat. Lines that begin with / are commands (/help tells them). On a terminal what goes wrong with one message is
/// said and the chat goes on; otherwise it ends the chat.
Status chat_loop(engine::Session& session, const ChatOptions& options);

}  // namespace shoehorn::cli
