#include <cstdlib>

#include "base/cpu.h"
#include "kernels/kernel.h"

namespace shoehorn::kernels {

#define SHOEHORN_KERNEL_SET(isa, features) \
  namespace isa {                          \
  std::span<const Kernels> rows();         \
  }
#include "kernels/kernels.inc"
#undef SHOEHORN_KERNEL_SET

namespace {

constexpr KernelSet kSets[] = {
#define SHOEHORN_KERNEL_SET(isa, features) {#isa, features, isa::rows},
#include "kernels/kernels.inc"
#undef SHOEHORN_KERNEL_SET
};

}  // namespace

std::span<const KernelSet> kernel_sets() { return kSets; }

Expected<const KernelSet*> select_kernel_set() {
  const uint32_t available = cpu_features();
  const char* forced = std::getenv("SHOEHORN_ISA");
  const KernelSet* best = nullptr;
  std::string names;
  for (const KernelSet& set : kSets) {
    names += (names.empty() ? "" : ", ") + std::string(set.isa);
    const bool runs = (set.cpu_features & ~available) == 0;
    if (forced != nullptr && std::string_view(forced) == set.isa) {
      if (!runs) return fail(ErrorCode::kUnsupported, "SHOEHORN_ISA={}: this CPU cannot run it", forced);
      return &set;
    }
    if (runs) best = &set;
  }
  if (forced != nullptr && *forced != '\0') {
    return fail(ErrorCode::kInvalid, "SHOEHORN_ISA={} is not known; this build has {}", forced, names);
  }
  return best;
}

const Kernels& kernels_for(const KernelSet& set, quant::Type type) {
  const auto rows = set.rows();
  for (const Kernels& row : rows) {
    if (row.type == type) return row;
  }
  __builtin_unreachable();  // every set has a row per format
}

}  // namespace shoehorn::kernels
