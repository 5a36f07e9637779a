// A saved prompt cache; what is taken from it is saved again and is the same.
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
  const std::string again = scratch.path() + "/again";
  if (!engine::save_session(session, *held, again) || engine::load_session(session, again) != *held) std::abort();
  return "";
}

}  // namespace shoehorn::fuzz
