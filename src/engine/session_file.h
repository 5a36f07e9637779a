// What a session has computed, kept in a file.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/session.h"

namespace shoehorn::engine {

/// Writes the keys and values of the session's positions, and the tokens that they are of (held: [n_past()]), to
/// `path`, whole or not at all.
Status save_session(const Session& session, std::span<const tokenizer::Token> held, const std::string& path);

/// Fills a session with what save_session() wrote, as many positions as its context has; the tokens that it holds then.
/// kNotFound when there is no such file. kInvalid, saying why, when it is damaged, of another model or of another cache
/// type: the session is empty then.
Expected<std::vector<tokenizer::Token>> load_session(Session& session, const std::string& path);

}  // namespace shoehorn::engine
