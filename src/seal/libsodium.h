// libsodium, and its start, which any number of threads may ask for.
#pragma once

#include <sodium.h>

#include "base/status.h"

namespace shoehorn::seal {

inline Status start_sodium() {
  if (sodium_init() < 0) return fail(ErrorCode::kIo, "libsodium could not be started");
  return {};
}

}  // namespace shoehorn::seal
