// libFuzzer's way into one target, SHOEHORN_FUZZ_TARGET_NAME.
#include <cstddef>
#include <cstdint>

#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const shoehorn::fuzz::Target& target = *shoehorn::fuzz::find_target(SHOEHORN_FUZZ_TARGET_NAME);
  target.read({reinterpret_cast<const char*>(data), size});
  return 0;
}
