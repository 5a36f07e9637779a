// A saved prompt cache.
#include "engine/session_file.h"

#include <cstdlib>

#include "fuzz/seeds.h"
#include "fuzz/target.h"

namespace shoehorn::fuzz {

std::string run_session_file(std::string_view input) {
  static const Scratch scratch;
  static engine::Session session = small_session();
  const auto held = engine::load_session(session, scratch.write("cache", input));
  if (!held) return message_of(held);
  if (held->size() != session.n_past()) std::abort();
  return "";
}

}  // namespace shoehorn::fuzz
