#include "base/cleanup.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>

namespace shoehorn {
namespace {

constexpr size_t kMaxPath = 4096;

// Fixed storage: the handler may neither lock nor allocate. A slot is `ready` only while its path is whole.
struct Slot {
  std::atomic<bool> taken{false};
  std::atomic<bool> ready{false};
  char path[kMaxPath];
};
std::array<Slot, 64> slots;

}  // namespace

void register_temporary(const std::string& path) {
  if (path.size() >= kMaxPath) return;
  for (auto& slot : slots) {
    if (slot.taken.exchange(true)) continue;
    std::memcpy(slot.path, path.c_str(), path.size() + 1);
    slot.ready.store(true);
    return;
  }
}

void unregister_temporary(const std::string& path) {
  for (auto& slot : slots) {
    if (!slot.ready.load() || path != slot.path) continue;
    slot.ready.store(false);
    slot.taken.store(false);
    return;
  }
}

void remove_registered_files() {
  for (auto& slot : slots) {
    if (slot.ready.load()) unlink(slot.path);
  }
}

}  // namespace shoehorn
